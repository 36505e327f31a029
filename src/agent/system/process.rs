//! Running programs: argv only, a small fixed environment, bounded output, a deadline.

use super::root::reason;
use crate::resource::{Failure, Output, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long output is still collected after the program ended: something that it left in the
/// background may hold the pipe for ever.
const DRAIN: Duration = Duration::from_millis(500);

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a program to its end, in `chroot` where one is given.
pub(super) fn run(program: &Program, chroot: Option<&Path>) -> Result<Output, Failure> {
    let mut argv: Vec<String> = Vec::new();
    if let Some(root) = chroot {
        argv.extend(["chroot".to_owned(), root.display().to_string()]);
    }
    if let Some(user) = &program.user {
        // setpriv belongs to util-linux, which Debian cannot be without; it knows further groups.
        let numeric = user.parse::<u32>().is_ok();
        let groups = if numeric { "--clear-groups" } else { "--init-groups" };
        let mut setpriv = vec!["setpriv".to_owned(), format!("--reuid={user}"), groups.to_owned()];
        if numeric {
            setpriv.push(format!("--regid={user}"));
        } else {
            setpriv.push(format!("--regid={}", primary_group(user, chroot)?));
        }
        setpriv.push("--".to_owned());
        argv.extend(setpriv);
    }
    argv.extend(program.argv.iter().cloned());
    let Some((name, arguments)) = argv.split_first() else {
        return Err(Failure::new("no program is named"));
    };
    let mut command = Command::new(name);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LANG", "C.UTF-8")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/root")
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .current_dir(program.cwd.as_deref().unwrap_or("/"))
        .stdin(if program.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let shown = program.argv.first().map_or("", String::as_str);
    let mut child = command.spawn().map_err(|error| cannot_start(shown, &error))?;
    let input = child.stdin.take().map(|mut pipe| {
        let bytes = program.stdin.clone();
        // A program that does not read its input ends the write with a broken pipe.
        thread::spawn(move || drop(pipe.write_all(&bytes)))
    });
    let stdout = child.stdout.take().map(|pipe| collect(pipe, program.output_limit));
    let stderr = child.stderr.take().map(|pipe| collect(pipe, program.output_limit));
    let (code, signal, timed_out) = wait(&mut child, program.timeout, shown)?;
    drop(input);
    let until = Instant::now() + DRAIN;
    Ok(Output {
        code,
        signal,
        timed_out,
        stdout: stdout.map_or_else(Vec::new, |tail| drained(&tail, until, program.output_limit)),
        stderr: stderr.map_or_else(Vec::new, |tail| drained(&tail, until, program.output_limit)),
    })
}

fn cannot_start(name: &str, error: &std::io::Error) -> Failure {
    let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
    let failure = Failure::new(format!("cannot start `{name}`: {}", reason(errno)));
    if errno == Errno::NOENT {
        failure.hint(format!("install the package that brings `{name}` in a step before this one"))
    } else {
        failure
    }
}

fn primary_group(user: &str, chroot: Option<&Path>) -> Result<u32, Failure> {
    let root = chroot.unwrap_or(Path::new("/"));
    std::fs::read_to_string(root.join("etc/passwd"))
        .ok()
        .and_then(|text| {
            let accounts = crate::resource::accounts::Accounts::parse(&text, "", "");
            accounts.users.get(user).map(|account| account.gid)
        })
        .ok_or_else(|| Failure::new(format!("the user `{user}` does not exist on the host")))
}

type Ended = (Option<i32>, Option<i32>, bool);

fn wait(child: &mut Child, timeout: Duration, name: &str) -> Result<Ended, Failure> {
    let fail = |errno| Failure::new(format!("cannot wait for `{name}`: {}", reason(errno)));
    let io = |error: std::io::Error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else {
        return Err(fail(Errno::SRCH));
    };
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(fail)?;
    let deadline = Instant::now() + timeout;
    let mut timed_out = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(fail(errno)),
            Ok(0) => {
                timed_out = true;
                kill_process_group(pid, Signal::KILL).ok();
                break;
            }
            Ok(_) => break,
        }
    }
    let status = child.wait().map_err(io)?;
    Ok((status.code(), status.signal(), timed_out))
}

/// What has been read of a pipe so far; the sender is dropped at its end.
struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

/// Reads a pipe on a thread of its own, which ends with the pipe.
fn collect(mut pipe: impl Read + Send + 'static, limit: usize) -> Tail {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let (alive, ended) = mpsc::channel::<()>();
    let shared = Arc::clone(&bytes);
    thread::spawn(move || {
        let _alive = alive;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    tail.extend_from_slice(&buffer[..count]);
                    if tail.len() > limit.saturating_mul(2) {
                        let surplus = tail.len() - limit;
                        tail.drain(..surplus);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });
    Tail { bytes, ended }
}

fn drained(tail: &Tail, until: Instant, limit: usize) -> Vec<u8> {
    // Both answers are fine: the pipe ended, or something in the background still holds it.
    let _ = tail.ended.recv_timeout(until.saturating_duration_since(Instant::now()));
    let mut bytes = std::mem::take(&mut *tail.bytes.lock().unwrap_or_else(PoisonError::into_inner));
    if bytes.len() > limit {
        bytes.drain(..bytes.len() - limit);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_output_and_code() {
        let program = Program::new(["sh", "-c", "cat; echo err >&2; exit 3"]).stdin("hello");
        let output = run(&program, None).unwrap();
        assert_eq!(output.code, Some(3));
        assert_eq!(output.stdout, b"hello");
        assert_eq!(output.stderr, b"err\n");
    }

    #[test]
    fn output_is_bounded_and_the_end_wins() {
        let program = Program::new(["seq", "1", "100000"]).output_limit(7);
        assert_eq!(run(&program, None).unwrap().stdout, b"\n100000\n"[1..].to_vec());
    }

    #[test]
    fn a_hung_program_dies_with_its_children() {
        let program =
            Program::new(["sh", "-c", "sleep 600 & wait"]).timeout(Duration::from_millis(100));
        let begin = Instant::now();
        let output = run(&program, None).unwrap();
        assert!(output.timed_out && !output.success());
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_background_process_does_not_hold_the_result() {
        let program = Program::new(["sh", "-c", "sleep 8 & echo done"]);
        let begin = Instant::now();
        assert_eq!(run(&program, None).unwrap().stdout, b"done\n");
        assert!(begin.elapsed() < Duration::from_secs(6));
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = run(&Program::new(["no-such-program"]), None).unwrap_err();
        assert!(failure.message.contains("`no-such-program`"), "{failure:?}");
        assert!(failure.hint.is_some());
    }
}
