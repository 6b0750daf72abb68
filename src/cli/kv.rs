//! `rollcall kv`: reads and writes the key-value store.

use std::io::{Read as _, Write};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::{
    Exit,
    client::{Answer, Call, Client, escape},
};

/// Arguments of `rollcall kv`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the value of a key.
    Get(Get),
    /// Write a value.
    Put(Put),
    /// List keys.
    Ls(Ls),
    /// Delete a key, or all that begin alike.
    Rm(Rm),
}

#[derive(Debug, clap::Args)]
struct Get {
    #[command(flatten)]
    client: Client,
    #[arg(value_name = "KEY")]
    key: String,
    /// Print the value's bytes and nothing else, not even the end of the line.
    #[arg(long, group = "form")]
    raw: bool,
    /// Print JSON as Consul's API has it, the value in base64.
    #[arg(long, group = "form")]
    json: bool,
    /// Print all that is known of the key.
    #[arg(long, group = "form")]
    detailed: bool,
}

#[derive(Debug, clap::Args)]
struct Put {
    #[command(flatten)]
    client: Client,
    #[arg(value_name = "KEY")]
    key: String,
    /// The value, `@FILE` for what is in a file, `-` for standard input; without one it is empty.
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: Option<String>,
    /// A number kept with the value, with a meaning of your own.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    flags: u64,
    /// Write only if this is the key's `ModifyIndex`; 0: only if there is no such key.
    #[arg(long, value_name = "INDEX")]
    cas: Option<u64>,
}

#[derive(Debug, clap::Args)]
struct Ls {
    #[command(flatten)]
    client: Client,
    /// Only keys that begin so.
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Show only one level: what follows the first separator behind the prefix is cut.
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Rm {
    #[command(flatten)]
    client: Client,
    #[arg(value_name = "KEY")]
    key: String,
    /// Delete all keys that begin so; with an empty KEY all there are.
    #[arg(long)]
    recurse: bool,
    /// Delete only if this is the key's `ModifyIndex`.
    #[arg(long, value_name = "INDEX", conflicts_with = "recurse")]
    cas: Option<u64>,
}

/// A key with its value, as Consul's API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pair {
    pub(super) lock_index: u64,
    pub(super) key: String,
    pub(super) flags: u64,
    /// In base64; an empty value is null.
    pub(super) value: Option<String>,
    /// Who holds the key as a lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// Does what the subcommand says.
pub(super) async fn run(args: Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    match args.command {
        Command::Get(get) => get.run(out).await,
        Command::Put(put) => put.run(out).await,
        Command::Ls(ls) => ls.run(out).await,
        Command::Rm(rm) => rm.run(out).await,
    }
}

/// The path of a key with these parameters.
pub(super) fn path(key: &str, parameters: &[(&str, &str)]) -> String {
    let path = format!("/v1/kv/{}", escape(key));
    if parameters.is_empty() {
        return path;
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters);
    format!("{path}?{}", query.finish())
}

/// The key in an answer to a GET; nothing if there is none.
pub(super) fn pair(answer: Answer) -> anyhow::Result<Option<Pair>> {
    if answer.status == StatusCode::NOT_FOUND && answer.body.is_empty() {
        return Ok(None);
    }
    Ok(answer.json::<Vec<Pair>>()?.into_iter().next())
}

impl Pair {
    fn value(&self) -> anyhow::Result<Vec<u8>> {
        let value = self.value.as_deref().unwrap_or_default();
        BASE64_STANDARD.decode(value).context("the value in the answer is not base64")
    }

    fn detailed(&self) -> anyhow::Result<String> {
        let rows = [
            ("Key", self.key.clone()),
            ("Value", String::from_utf8_lossy(&self.value()?).into_owned()),
            ("Flags", self.flags.to_string()),
            ("Session", self.session.clone().unwrap_or_else(|| "-".to_owned())),
            ("LockIndex", self.lock_index.to_string()),
            ("CreateIndex", self.create_index.to_string()),
            ("ModifyIndex", self.modify_index.to_string()),
        ];
        let lines: Vec<_> = rows.iter().map(|(name, value)| format!("{name:<13}{value}")).collect();
        Ok(lines.join("\n") + "\n")
    }
}

impl Get {
    async fn run(self, out: &mut impl Write) -> anyhow::Result<Exit> {
        let (client, key) = (&self.client, &self.key);
        let cannot = || format!("cannot read {key:?}");
        let answer = client.call(&Call::get(&path(key, &[]))).await?;
        let found = pair(answer).with_context(cannot)?;
        let found = found.with_context(|| format!("{client} has no key {key:?}"))?;
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &found)?;
            writeln!(out)?;
        } else if self.detailed {
            write!(out, "{}", found.detailed().with_context(cannot)?)?;
        } else {
            out.write_all(&found.value().with_context(cannot)?)?;
            if !self.raw {
                writeln!(out)?;
            }
        }
        Ok(Exit::Ok)
    }
}

impl Put {
    async fn run(self, out: &mut impl Write) -> anyhow::Result<Exit> {
        let key = &self.key;
        let flags = self.flags.to_string();
        let cas = self.cas.map(|index| index.to_string());
        let mut parameters = vec![("flags", flags.as_str())];
        parameters.extend(cas.as_deref().map(|index| ("cas", index)));
        let path = path(key, &parameters);
        let call = Call::put(&path, value(self.value.as_deref())?);
        let answer = self.client.call(&call).await?;
        if !answer.json::<bool>().with_context(|| format!("cannot write {key:?}"))? {
            bail!("{key:?} is not written: {}", changed(self.cas));
        }
        writeln!(out, "{key} is written")?;
        Ok(Exit::Ok)
    }
}

impl Ls {
    async fn run(self, out: &mut impl Write) -> anyhow::Result<Exit> {
        let mut parameters = vec![("keys", "")];
        parameters.extend(self.separator.as_deref().map(|text| ("separator", text)));
        let answer = self.client.call(&Call::get(&path(&self.prefix, &parameters))).await?;
        let keys = if answer.status == StatusCode::NOT_FOUND && answer.body.is_empty() {
            Vec::new()
        } else {
            answer.json::<Vec<String>>().context("cannot list the keys")?
        };
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &keys)?;
            writeln!(out)?;
        } else {
            for key in keys {
                writeln!(out, "{key}")?;
            }
        }
        Ok(Exit::Ok)
    }
}

impl Rm {
    async fn run(self, out: &mut impl Write) -> anyhow::Result<Exit> {
        let key = &self.key;
        if key.is_empty() && !self.recurse {
            eprintln!("rollcall: the key is empty; to delete all keys, say --recurse");
            return Ok(Exit::Usage);
        }
        let cas = self.cas.map(|index| index.to_string());
        let mut parameters = Vec::new();
        parameters.extend(self.recurse.then_some(("recurse", "")));
        parameters.extend(cas.as_deref().map(|index| ("cas", index)));
        let answer = self.client.call(&Call::delete(&path(key, &parameters))).await?;
        if !answer.json::<bool>().with_context(|| format!("cannot delete {key:?}"))? {
            bail!("{key:?} is not deleted: {}", changed(self.cas));
        }
        let all = if self.recurse { "all that begins with " } else { "" };
        writeln!(out, "{all}{key} is deleted")?;
        Ok(Exit::Ok)
    }
}

/// Why a write under a condition was refused.
fn changed(cas: Option<u64>) -> String {
    match cas {
        Some(0) => "there is such a key already".to_owned(),
        Some(index) => format!("its ModifyIndex is not {index} any more; read it again"),
        None => "the daemon has refused it".to_owned(),
    }
}

/// The value that an argument stands for.
fn value(argument: Option<&str>) -> anyhow::Result<Bytes> {
    let Some(text) = argument else { return Ok(Bytes::new()) };
    if text == "-" {
        let mut value = Vec::new();
        std::io::stdin().read_to_end(&mut value).context("cannot read standard input")?;
        return Ok(value.into());
    }
    match text.strip_prefix('@') {
        Some(file) => {
            Ok(std::fs::read(file).with_context(|| format!("cannot read {file}"))?.into())
        }
        None => Ok(text.to_owned().into()),
    }
}

#[cfg(test)]
mod tests;
