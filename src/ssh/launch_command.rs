//! The one command line that the login shell gets.
//!
//! It must mean the same to sh, bash, dash, zsh, fish, csh and tcsh, so it is `exec /bin/sh -c` and
//! one single-quoted word without a quote, backslash, exclamation mark or line break in it. It holds
//! nothing from a site: only directories of a fixed alphabet and digests.
//!
//! One channel does it all. Where the agent is there it is started at once (one round trip).
//! Otherwise the script says `strata-wants ARCHITECTURE`, reads a line `SHA256 SIZE` and that many
//! bytes, checks them, puts the agent into the first directory from which it really runs (`noexec`
//! mounts are found by trying) and starts it. Data is first written to the *last* directory of the
//! list, which is in memory, so that a full disk does not keep the agent out.

use super::sudo::Elevation;

/// The word before the architecture when the host has no agent.
pub(super) const WANTS: &str = "strata-wants ";
/// The word before the reason when the upload failed.
pub(super) const FAILED: &str = "strata-failed ";

/// Whether an agent that is already there may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Start it.
    Use,
    /// It did not work: upload again.
    Replace,
}

/// The command line. Other users than root go through `sudo`.
///
/// # Errors
/// When a directory or digest has other characters than it may have.
pub(super) fn launch_command(
    directories: &[String],
    digests: &[&str],
    existing: Existing,
    elevation: &Elevation,
) -> Result<String, String> {
    let harmless = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
    };
    for directory in directories {
        if !directory.starts_with('/') || !harmless(directory) {
            return Err(format!(
                "the agent directory {directory:?} must be an absolute path of letters, digits and /._-"
            ));
        }
    }
    if directories.is_empty() || !digests.iter().all(|digest| harmless(digest)) {
        return Err("there is no directory for the agent".into());
    }
    let forwards = directories.join(" ");
    let backwards = directories.iter().rev().map(String::as_str).collect::<Vec<_>>().join(" ");
    let mut script = String::from("umask 077; ");
    // An agent that had to start from memory, because no disk took it, is put on a disk as soon as
    // one does: only from there can it take an unproved change back after a boot.
    let on_disk: Vec<&str> = directories
        .iter()
        .map(String::as_str)
        .filter(|directory| !directory.starts_with("/run/"))
        .collect();
    let lasting = if on_disk.is_empty() { forwards.clone() } else { on_disk.join(" ") };
    if existing == Existing::Use {
        // A file that is no ELF program must not reach exec: sh would take it for a script.
        script += &format!(
            "for d in {lasting}; do for h in {}; do f=$d/agents/strata-agent-$h; \
             if [ -O $d ] && [ -O $f ] && [ -x $f ] && read -r m < $f 2>/dev/null && case $m in *ELF*) true;; *) false;; esac; \
             then exec $f serve --digest $h; fi; done; done; ",
            digests.join(" "),
        );
    }
    script += &format!(
        "echo {WANTS}$(uname -m); read -r h n || exit 1; t=; \
         for d in {backwards}; do a=$d/agents; \
         if mkdir -p $a 2>/dev/null && [ -O $d ] && [ -O $a ] && chmod 700 $d $a && {{ true > $a/.upload.$$; }} 2>/dev/null; \
         then t=$a/.upload.$$; break; fi; done; \
         [ -n \"$t\" ] || {{ echo {FAILED}no directory of {forwards} can be written; exit 1; }}; \
         head -c $n > $t || {{ rm -f $t; echo {FAILED}$t cannot be written; exit 1; }}; \
         if command -v sha256sum >/dev/null; then s=$(sha256sum < $t); \
         [ \"${{s%% *}}\" = $h ] || {{ rm -f $t; echo {FAILED}the upload was damaged on the way; exit 1; }}; fi; \
         for d in {forwards}; do a=$d/agents; u=$a/.new.$$; f=$a/strata-agent-$h; \
         if mkdir -p $a 2>/dev/null && [ -O $d ] && [ -O $a ] && chmod 700 $d $a && cp $t $u 2>/dev/null && chmod 700 $u \
         && [ \"$($u digest 2>/dev/null < /dev/null)\" = $h ] && mv -f $u $f; \
         then rm -f $t; find $a -name \"strata-agent-*\" -mtime +30 -exec rm -f {{}} + 2>/dev/null; exec $f serve --digest $h; fi; \
         rm -f $u; done; rm -f $t; echo {FAILED}it runs from no directory of {forwards}; exit 1"
    );
    Ok(format!("exec {}/bin/sh -c '{script}'", elevation.words()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_command_means_more_than_itself_in_any_shell() {
        let directories = ["/var/lib/strata".to_owned(), "/run/strata".to_owned()];
        for existing in [Existing::Use, Existing::Replace] {
            let command =
                launch_command(&directories, &["abc123"], existing, &Elevation::None).unwrap();
            let inner =
                command.strip_prefix("exec /bin/sh -c '").unwrap().strip_suffix('\'').unwrap();
            assert!(!inner.contains(['\'', '\\', '!', '\n', '`']), "{inner}");
            assert!(command.len() < 4096);
        }
        let launch = |elevation| {
            launch_command(&directories, &["abc123"], Existing::Use, &elevation).unwrap()
        };
        let sudo = launch(Elevation::Sudo);
        assert!(sudo.starts_with("exec env LC_ALL=C sudo -n /bin/sh -c '"), "{sudo}");
        let sudo = launch(Elevation::of("ops", true));
        assert!(sudo.starts_with("exec env LC_ALL=C sudo -S -p strata-sudo-"), "{sudo}");
    }

    #[test]
    fn odd_directories_are_refused() {
        for odd in ["relative", "/with space", "/with$dollar", "/with'quote", ""] {
            assert!(
                launch_command(&[odd.to_owned()], &["abc"], Existing::Use, &Elevation::None)
                    .is_err(),
                "{odd}"
            );
        }
        assert!(launch_command(&[], &["abc"], Existing::Use, &Elevation::None).is_err());
    }
}
