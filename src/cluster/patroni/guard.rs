//! What another image would do to the data: found before it is used, not after.

use super::settings::Settings;
use super::view::Status;
use crate::cluster::reach::{Reach, program};
use crate::plan::MemberPlan;
use crate::resource::Resource;
use crate::wire::ExecSpec;

/// Milliseconds that a container may take which only tells what it is.
const TELL_MS: u32 = 120_000;

/// Prints PostgreSQL's and Patroni's versions, and which C library there is.
const TELL: &str = "postgres --version; patroni --version 2>/dev/null; ls /lib | grep -q '^ld-musl' && echo musl || echo glibc";

/// What an image, or a container, says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    postgres: Option<u32>,
    patroni: Option<Vec<u32>>,
    library: Option<String>,
}

/// Why the wanted image must not get this member's data.
///
/// # Errors
/// When it cannot be asked.
pub async fn forbidden(
    reach: &Reach<'_>,
    member: &str,
    plan: &MemberPlan,
    settings: &Settings,
    status: &Status,
) -> Result<Vec<String>, String> {
    let image = plan.items.iter().find_map(|item| match &item.resource {
        Resource::Container(container) if container.name == settings.daemon => {
            container.image.clone()
        }
        _ => None,
    });
    let Some(image) = image else { return Ok(Vec::new()) };
    let version = reach.checked(member, &["cat", &format!("{}/PG_VERSION", plan.data)]).await?;
    let entry =
        ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", &image, "-c", TELL];
    let wanted = told(&reach.checked_as(member, slow(&entry)).await?);
    let exec = ["docker", "exec", &settings.daemon, "sh", "-c", TELL];
    let ran = reach.hosts.run(member, slow(&exec)).await?;
    let found = if ran.success { told(&ran.stdout) } else { Told::default() };
    Ok(compare(&version, &found, &wanted, &status.version))
}

fn slow(argv: &[&str]) -> ExecSpec {
    ExecSpec { timeout_ms: TELL_MS, ..program(argv) }
}

fn told(text: &str) -> Told {
    let mut told = Told::default();
    for line in text.lines() {
        let last =
            || line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        if line.starts_with("postgres ") {
            told.postgres = last().and_then(major);
        } else if line.contains("patroni") || line.starts_with("__main__") {
            told.patroni = last().map(numbers);
        } else if matches!(line, "musl" | "glibc") {
            told.library = Some(line.to_owned());
        }
    }
    told
}

fn major(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

fn compare(data: &str, found: &Told, wanted: &Told, running: &str) -> Vec<String> {
    let mut forbidden = Vec::new();
    if let (Some(data), Some(image)) = (major(data), wanted.postgres)
        && data != image
    {
        forbidden.push(format!("its data is of PostgreSQL {data}, the wanted image has {image}"));
    }
    if let (Some(found), Some(wanted)) = (&found.library, &wanted.library)
        && found != wanted
    {
        forbidden.push(format!(
            "its data was sorted by {found}, the wanted image has {wanted}: indexes of texts would be silently wrong"
        ));
    }
    let running = numbers(running);
    if let Some(wanted) = &wanted.patroni
        && !running.is_empty()
        && *wanted < running
    {
        let text =
            |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
        forbidden.push(format!(
            "it runs Patroni {}, the wanted image has the older {}",
            text(&running),
            text(wanted)
        ));
    }
    forbidden
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str =
        "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\npatroni 3.3.0\nglibc\n";

    #[test]
    fn what_would_damage_data_is_named() {
        let debian = told(DEBIAN);
        assert_eq!(debian.postgres, Some(15));
        assert_eq!(debian.patroni, Some(vec![3, 3, 0]));
        assert_eq!(compare("15\n", &debian, &debian, "3.3.0"), Vec::<String>::new());
        let alpine = told("postgres (PostgreSQL) 16.4\npatroni 3.2.9\nmusl\n");
        let why = compare("15\n", &debian, &alpine, "3.3.0");
        assert_eq!(why.len(), 3, "{why:?}");
        // What does not tell forbids nothing.
        assert_eq!(compare("15\n", &Told::default(), &Told::default(), ""), Vec::<String>::new());
    }
}
