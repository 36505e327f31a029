//! What another image would do to the data: found before it is used, not after (X20).

use super::connection;
use super::settings::{Runtime, Settings, text_of};
use super::view::Status;
use crate::cluster::reach::{Reach, container_of, program};
use crate::plan::MemberPlan;
use crate::postgres_client::{Client, Error};
use crate::resource::Resource;
use crate::wire::ExecSpec;
use std::net::Ipv4Addr;

/// Milliseconds that a container may take which only tells what it is.
const TELL_MS: u32 = 120_000;

/// Prints PostgreSQL's and Patroni's versions, and which libraries sort texts.
const TELL: &str = "postgres --version; patroni --version 2>/dev/null; \
    if ls /lib | grep -q '^ld-musl'; then echo musl; else echo \"glibc $(ldd --version | sed -n '1s/.* //p')\"; fi; \
    ls /usr/lib/libicui18n.so.* /usr/lib/*/libicui18n.so.* 2>/dev/null | sed -n 's/.*[.]so[.]\\([0-9]*\\)$/icu \\1/p' | head -n 1";

/// Databases whose texts are sorted by a library's own rules: PostgreSQL notes the version of such
/// rules, and there are none in `C` and its like. Before version 15 it noted nothing of databases.
const DATABASES: &str = "select datname, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'), datcollate \
    from pg_database d where datallowconn and case when to_jsonb(d) ? 'datcollversion' \
    then to_jsonb(d) ->> 'datcollversion' is not null \
    else datcollate not in ('C', 'POSIX') and datcollate not like 'C.%' end";

/// Indexes of a database that are sorted by a collation of their own.
const INDEXES: &str = "select min(i.indexrelid::regclass::text), c.collprovider::text, c.collname::text \
    from pg_index i cross join unnest(i.indcollation) as used(which) \
    join pg_collation c on c.oid = used.which where c.collversion is not null group by 2, 3";

/// Databases that take connections.
const NAMES: &str = "select datname from pg_database where datallowconn";

/// What an image says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Told {
    postgres: Option<u32>,
    patroni: Option<Vec<u32>>,
    /// `musl` or `glibc`, and which version.
    library: Option<(String, String)>,
    icu: Option<String>,
}

impl Told {
    /// Whether texts are sorted by the same versions of the same libraries.
    fn sorts_as(&self, other: &Self) -> bool {
        self.library == other.library && self.icu == other.icu
    }
}

/// Something whose order depends on a library's own rules.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sorted {
    what: String,
    /// As PostgreSQL calls it: `c` for the C library, `i` for ICU.
    provider: String,
}

/// A member's data, and what is to run on it.
pub struct Question<'q> {
    /// Its host.
    pub member: &'q str,
    /// Its private address.
    pub address: Ipv4Addr,
    /// What it is to be.
    pub plan: &'q MemberPlan,
    /// What Patroni says, where it runs.
    pub status: Option<&'q Status>,
}

impl Question<'_> {
    /// Why what is wanted must not get this member's data. An image that is not on the host yet is
    /// judged once it is: nothing can be made of it before.
    ///
    /// # Errors
    /// When one cannot be asked.
    pub async fn forbidden(
        &self,
        reach: &Reach<'_>,
        settings: &Settings,
    ) -> Result<Vec<String>, String> {
        let file = format!("{}/PG_VERSION", self.plan.data);
        let version = reach.hosts.run(self.member, program(&["cat", &file])).await?;
        // A copy that has only begun.
        let data = if version.success { version.stdout } else { String::new() };
        if settings.runtime == Runtime::Native {
            let text = text_of(&self.plan.items, &settings.config).unwrap_or_default();
            let wanted = Told { postgres: programs(text), ..Told::default() };
            return Ok(compare(&data, &Told::default(), &wanted, &[]));
        }
        let image = self.plan.items.iter().find_map(|item| match &item.resource {
            Resource::Container(container)
                if container_of(&item.resource) == Some(settings.daemon.as_str()) =>
            {
                container.image.clone()
            }
            _ => None,
        });
        let Some(image) = image else { return Ok(Vec::new()) };
        let wanted = ["docker", "image", "inspect", "--format", "{{.Id}}", &image];
        let wanted = self.output(reach, program(&wanted)).await?;
        let Some(wanted) = wanted else { return Ok(Vec::new()) };
        let found = ["docker", "inspect", "--format", "{{.Image}}", &settings.daemon];
        let found = self.output(reach, program(&found)).await?;
        if found.as_ref() == Some(&wanted) {
            return Ok(Vec::new());
        }
        let told = reach.checked_as(self.member, ask(&wanted)).await?;
        let wanted = self::told(&told);
        // An image that is gone, or says nothing, forbids nothing by itself.
        let found = match found {
            Some(found) => self.output(reach, ask(&found)).await?.map(|text| self::told(&text)),
            None => None,
        };
        let mut found = found.unwrap_or_default();
        if let Some(status) = self.status.filter(|status| !status.version.is_empty()) {
            found.patroni = Some(numbers(&status.version));
        }
        let sorted = match self.status {
            Some(status) if status.runs() && !found.sorts_as(&wanted) => {
                self.sorted(reach, settings).await?
            }
            _ => Vec::new(),
        };
        Ok(compare(&data, &found, &wanted, &sorted))
    }

    /// What a program prints, if it succeeds.
    async fn output(&self, reach: &Reach<'_>, spec: ExecSpec) -> Result<Option<String>, String> {
        let ran = reach.hosts.run(self.member, spec).await?;
        Ok(ran.success.then(|| ran.stdout.trim().to_owned()))
    }

    /// What on this server depends on the rules of a library.
    async fn sorted(&self, reach: &Reach<'_>, settings: &Settings) -> Result<Vec<Sorted>, String> {
        let said = |error: Error| format!("PostgreSQL on {}: {error}", self.member);
        let server = connection::superuser(reach, self.member, self.address, settings)
            .await
            .map_err(|error| error.to_string())?;
        let mut sorted = rows(&server, "database", DATABASES).await.map_err(said)?;
        let names = server.rows("databases", NAMES).await.map_err(said)?;
        let who = (settings.user.as_str(), settings.password.expose().as_str());
        for name in names.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
            let inside =
                connection::login(reach, self.member, self.address, settings, who, &name).await;
            let inside = inside.map_err(|error| error.to_string())?;
            let what = format!("database {name}, index");
            sorted.extend(rows(&inside, &what, INDEXES).await.map_err(said)?);
        }
        Ok(sorted)
    }
}

async fn rows(client: &Client, what: &str, query: &str) -> Result<Vec<Sorted>, Error> {
    let rows = client.rows("what sorts texts", query).await?;
    let sorted = rows.into_iter().filter_map(|row| {
        let mut row = row.into_iter();
        let (name, provider, collation) = (row.next()??, row.next()??, row.next()??);
        Some(Sorted { what: format!("{what} {name} ({collation})"), provider })
    });
    Ok(sorted.collect())
}

/// Asks an image what is in it.
fn ask(image: &str) -> ExecSpec {
    let run = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image];
    slow(&[&run[..], &["-c", TELL]].concat())
}

/// The major version in the path of PostgreSQL's programs, as Patroni's file has it.
fn programs(text: &str) -> Option<u32> {
    let path = text.lines().find_map(|line| line.trim_start().strip_prefix("bin_dir:"))?;
    path.trim().split('/').find_map(|part| part.parse().ok())
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
        } else if let Some((kind @ ("musl" | "glibc"), version)) =
            Some(line.split_once(' ').unwrap_or((line, "")))
        {
            told.library = Some((kind.to_owned(), version.to_owned()));
        } else if let Some(version) = line.strip_prefix("icu ") {
            told.icu = Some(version.to_owned());
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

fn compare(data: &str, found: &Told, wanted: &Told, sorted: &[Sorted]) -> Vec<String> {
    let mut forbidden = Vec::new();
    if let (Some(data), Some(image)) = (major(data), wanted.postgres)
        && data != image
    {
        forbidden.push(format!(
            "its data is of PostgreSQL {data}, and what is wanted has PostgreSQL {image}"
        ));
    }
    if let (Some((found, from)), Some((wanted, to))) = (&found.library, &wanted.library) {
        if found != wanted {
            forbidden.push(format!(
                "its data was sorted by {found}, the wanted image has {wanted}: indexes of texts would be silently wrong"
            ));
        } else if from != to {
            forbidden.extend(resorted(sorted, "c", found, (from, to)));
        }
    }
    if let (Some(from), Some(to)) = (&found.icu, &wanted.icu)
        && from != to
    {
        forbidden.extend(resorted(sorted, "i", "ICU", (from, to)));
    }
    if let (Some(found), Some(wanted)) = (&found.patroni, &wanted.patroni)
        && wanted < found
    {
        let text =
            |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
        forbidden.push(format!(
            "it runs Patroni {}, the wanted image has the older {}",
            text(found),
            text(wanted)
        ));
    }
    forbidden
}

/// What another version of a library would sort in another way.
fn resorted(
    sorted: &[Sorted],
    provider: &str,
    library: &str,
    (from, to): (&str, &str),
) -> Option<String> {
    let what: Vec<&str> =
        sorted.iter().filter(|one| one.provider == provider).map(|one| one.what.as_str()).collect();
    let first = what.first()?;
    let others = match what.len() - 1 {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    Some(format!(
        "{first}{others} is sorted by {library} {from}, the wanted image has {to}: indexes of texts could be silently wrong"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str =
        "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\npatroni 3.3.0\nglibc 2.36\nicu 72\n";

    #[test]
    fn what_would_damage_data_is_named() {
        let debian = told(DEBIAN);
        assert_eq!(debian.postgres, Some(15));
        assert_eq!(debian.patroni, Some(vec![3, 3, 0]));
        assert_eq!(debian.library, Some(("glibc".to_owned(), "2.36".to_owned())));
        assert_eq!(debian.icu.as_deref(), Some("72"));
        assert_eq!(compare("15\n", &debian, &debian, &[]), Vec::<String>::new());
        let alpine = told("postgres (PostgreSQL) 16.4\npatroni 3.2.9\nmusl\n");
        let why = compare("15\n", &debian, &alpine, &[]);
        assert_eq!(why.len(), 3, "{why:?}");
        // What does not tell forbids nothing.
        assert_eq!(compare("15\n", &Told::default(), &Told::default(), &[]), Vec::<String>::new());
    }

    #[test]
    fn another_version_of_a_library_forbids_what_it_sorts() {
        let old = told(DEBIAN);
        let new = told(&DEBIAN.replace("glibc 2.36", "glibc 2.41").replace("icu 72", "icu 76"));
        // `C.UTF-8` everywhere: code points, in every version.
        assert_eq!(compare("15\n", &old, &new, &[]), Vec::<String>::new());
        let by = |what: &str, provider: &str| Sorted {
            what: what.to_owned(),
            provider: provider.to_owned(),
        };
        let sorted = [
            by("database crm (fr_FR.UTF-8)", "c"),
            by("database crm, index names (fr_FR)", "c"),
            by("database shop (en-US)", "i"),
        ];
        let why = compare("15\n", &old, &new, &sorted);
        assert_eq!(why.len(), 2, "{why:?}");
        assert!(
            why[0].starts_with("database crm (fr_FR.UTF-8) and 1 more is sorted by glibc 2.36"),
            "{why:?}"
        );
        assert!(why[1].starts_with("database shop (en-US) is sorted by ICU 72"), "{why:?}");
        assert_eq!(compare("15\n", &old, &old, &sorted), Vec::<String>::new());
    }

    #[test]
    fn programs_of_another_version_are_known_by_their_path() {
        let text = "postgresql:\n  listen: 0.0.0.0:5432\n  bin_dir: /usr/lib/postgresql/17/bin\n";
        let wanted = Told { postgres: programs(text), ..Told::default() };
        let why = compare("15\n", &Told::default(), &wanted, &[]);
        assert!(why[0].contains("PostgreSQL 15, and what is wanted has PostgreSQL 17"), "{why:?}");
        assert_eq!(programs("postgresql: {}\n"), None);
    }
}
