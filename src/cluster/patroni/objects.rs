//! What the role declares to be in the databases: roles, databases, extensions, and how a pooler
//! looks passwords up. Compared with the catalogs; what is there is left alone.

use super::connection::{self, NoLogin};
use super::settings::{Lookup, Settings, WantedDatabase};
use crate::cluster::reach::Reach;
use crate::postgres_client::{Client, Error, identifier, literal, scram_verifier};
use crate::secrets::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// What is to be done.
#[derive(Debug, Default)]
pub struct Lacking {
    /// In their order.
    pub changes: Vec<Change>,
    /// What cannot be had and forbids nothing.
    pub remarks: Vec<String>,
}

/// One thing to do.
#[derive(Debug)]
pub struct Change {
    /// What it is, to show.
    pub what: String,
    /// The database to do it in.
    pub database: String,
    /// How; may hold what a password is checked with.
    pub statement: Secret<String>,
}

/// Compares the catalogs of a leader with what is declared.
///
/// # Errors
/// When they cannot be looked at.
pub async fn lacking(
    reach: &Reach<'_>,
    leader: &str,
    address: Ipv4Addr,
    settings: &Settings,
) -> Result<Lacking, String> {
    let said = |error: Error| format!("PostgreSQL on {leader}: {error}");
    let mut lacking = Lacking::default();
    if settings.roles.is_empty() && settings.databases.is_empty() && settings.lookup.is_none() {
        return Ok(lacking);
    }
    let server = connection::superuser(reach, leader, address, settings)
        .await
        .map_err(|error| error.to_string())?;
    let names = column(&server, "select rolname from pg_roles where rolcanlogin").await;
    let known = names.map_err(said)?;
    let lookup = settings.lookup.as_ref().map(|lookup| (&lookup.role, &lookup.password));
    for (name, password) in
        settings.roles.iter().map(|role| (&role.name, &role.password)).chain(lookup)
    {
        let found = match known.contains(name) {
            true => {
                let who = (name.as_str(), password.expose().as_str());
                connection::login(reach, leader, address, settings, who, "postgres").await.map(drop)
            }
            false => Err(NoLogin::Refuses(String::new())),
        };
        let (what, verb) = match found {
            Ok(()) => continue,
            Err(NoLogin::Damaged(why) | NoLogin::Unready(why)) => return Err(why),
            Err(NoLogin::Refuses(_)) if known.contains(name) => ("password of", "alter"),
            Err(NoLogin::Refuses(_)) => ("role", "create"),
        };
        let verifier = Secret::new(scram_verifier(password.expose()));
        let role = identifier(name);
        let verifier = literal(verifier.expose());
        lacking.add(
            "postgres",
            format!("{verb} {what} {name}"),
            format!("{verb} role {role} login password {verifier}"),
        );
    }
    let owners =
        "select d.datname, r.rolname from pg_database d join pg_roles r on r.oid = d.datdba";
    let owners: BTreeMap<String, String> = server
        .rows("databases", owners)
        .await
        .map_err(said)?
        .into_iter()
        .filter_map(|row| {
            let mut row = row.into_iter();
            Some((row.next()??, row.next()??))
        })
        .collect();
    let available = column(&server, "select name from pg_available_extensions").await;
    let available = available.map_err(said)?;
    for wanted in &settings.databases {
        let (name, owner) = (identifier(&wanted.name), identifier(&wanted.owner));
        match owners.get(&wanted.name) {
            None => lacking.add(
                "postgres",
                format!("create database {}", wanted.name),
                format!("create database {name} owner {owner}"),
            ),
            Some(found) if *found != wanted.owner => lacking.add(
                "postgres",
                format!("give database {} to {}", wanted.name, wanted.owner),
                format!("alter database {name} owner to {owner}"),
            ),
            Some(_) => {}
        }
        let inside = match owners.contains_key(&wanted.name) {
            true => {
                let who = (settings.user.as_str(), settings.password.expose().as_str());
                let login =
                    connection::login(reach, leader, address, settings, who, &wanted.name).await;
                Some(login.map_err(|error| error.to_string())?)
            }
            false => None,
        };
        lacking.extensions(wanted, inside.as_ref(), &available).await.map_err(said)?;
        if let Some(lookup) = &settings.lookup {
            lacking.lookup(&wanted.name, inside.as_ref(), lookup).await.map_err(said)?;
        }
    }
    Ok(lacking)
}

/// Does what is lacking.
///
/// # Errors
/// What failed, and why.
pub async fn bring_about(
    reach: &Reach<'_>,
    leader: &str,
    address: Ipv4Addr,
    settings: &Settings,
) -> Result<(), String> {
    let who = (settings.user.as_str(), settings.password.expose().as_str());
    let mut open: BTreeMap<String, Client> = BTreeMap::new();
    for change in lacking(reach, leader, address, settings).await?.changes {
        if !open.contains_key(&change.database) {
            let login =
                connection::login(reach, leader, address, settings, who, &change.database).await;
            open.insert(change.database.clone(), login.map_err(|error| error.to_string())?);
        }
        if let Some(client) = open.get(&change.database) {
            let done = client.batch(&change.what, change.statement.expose()).await;
            done.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

impl Lacking {
    fn add(&mut self, database: &str, what: String, statement: String) {
        let statement = Secret::new(statement);
        self.changes.push(Change { what, database: database.to_owned(), statement });
    }

    async fn extensions(
        &mut self,
        wanted: &WantedDatabase,
        inside: Option<&Client>,
        available: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let there = match inside {
            Some(client) => column(client, "select extname from pg_extension").await?,
            None => BTreeSet::new(),
        };
        for extension in wanted.extensions.iter().filter(|name| !there.contains(*name)) {
            if available.contains(extension) {
                self.add(
                    &wanted.name,
                    format!("create extension {extension} in {}", wanted.name),
                    format!("create extension if not exists {}", identifier(extension)),
                );
            } else {
                self.remarks.push(format!("this server has no extension {extension}"));
            }
        }
        Ok(())
    }

    async fn lookup(
        &mut self,
        database: &str,
        inside: Option<&Client>,
        wanted: &Lookup,
    ) -> Result<(), Error> {
        if let Some(client) = inside
            && client.value("get_auth", &is_there(wanted)).await?.as_deref() == Some("t")
        {
            return Ok(());
        }
        let what = format!("function {}.get_auth in {database}", wanted.schema);
        self.add(database, what, definition(wanted));
        Ok(())
    }
}

/// One column as a set.
async fn column(client: &Client, statement: &str) -> Result<BTreeSet<String>, Error> {
    let rows = client.rows("catalog", statement).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// What looks a password up: superusers' are not told to a pooler.
const BODY: &str = "select usename::text, passwd::text from pg_catalog.pg_shadow where usename = p_usename and not usesuper and not userepl";

/// True when the function is as wanted, and nobody but the pooler may call it.
fn is_there(wanted: &Lookup) -> String {
    format!(
        "select case when not exists (select from pg_roles where rolname = {role}) then false \
         else p.prosecdef and p.prosrc = {body} and has_function_privilege({role}, p.oid, 'execute') \
         and has_schema_privilege({role}, n.oid, 'usage') \
         and not exists (select from aclexplode(p.proacl) a where a.grantee = 0) and p.proacl is not null end \
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
         where n.nspname = {schema} and p.proname = 'get_auth'",
        body = literal(BODY),
        role = literal(&wanted.role),
        schema = literal(&wanted.schema),
    )
}

fn definition(wanted: &Lookup) -> String {
    let (schema, role) = (identifier(&wanted.schema), identifier(&wanted.role));
    format!(
        "begin; create schema if not exists {schema}; revoke all on schema {schema} from public; \
         grant usage on schema {schema} to {role}; \
         create or replace function {schema}.get_auth(p_usename text) \
         returns table (username text, password text) language sql stable security definer \
         set search_path = pg_catalog as {body}; \
         revoke all on function {schema}.get_auth(text) from public; \
         grant execute on function {schema}.get_auth(text) to {role}; commit",
        body = literal(BODY),
    )
}
