//! `rollcall register`, `deregister` and `undo`: instances come and go.

use std::{
    io::{Read as _, Write},
    path::PathBuf,
};

use anyhow::{Context as _, bail};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::duration::Period;

use super::{
    Exit,
    client::{self, Call, Client, Lost, escape},
};

const REGISTER: &str = "/v1/rollcall/register";
const UNDO: &str = "/v1/rollcall/undo";

/// The meta key that says who an instance belongs to.
const OWNER: &str = "owner";

/// Arguments of `rollcall register`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "name"]))]
#[command(group = clap::ArgGroup::new("check").conflicts_with("file").args([
    "check_http", "check_tcp", "check_grpc", "check_ttl",
]))]
pub(super) struct Args {
    #[command(flatten)]
    client: Client,
    /// A Consul service definition in JSON, `-` for standard input: one object, or one or several
    /// under `service` or `services`.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The name of the service, instead of a file.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The id of the instance [default: the name].
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    id: Option<String>,
    /// Where the instance is reached [default: the node's address].
    #[arg(long, value_name = "HOST", conflicts_with = "file")]
    address: Option<String>,
    /// The port of the instance.
    #[arg(long, value_name = "PORT", conflicts_with = "file")]
    port: Option<u16>,
    /// A tag; may be given more than once.
    #[arg(long, value_name = "TAG", conflicts_with = "file")]
    tag: Vec<String>,
    /// Anything else worth knowing, as `key=value`; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "file", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// Check by a GET of this URL.
    #[arg(long, value_name = "URL")]
    check_http: Option<String>,
    /// Check by connecting to this address.
    #[arg(long, value_name = "HOST:PORT")]
    check_tcp: Option<String>,
    /// Check by asking the gRPC health service at this address, of one service if it is named.
    #[arg(long, value_name = "HOST:PORT[/SERVICE]")]
    check_grpc: Option<String>,
    /// The instance shows by itself that it is well, at least this often.
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["interval", "timeout"])]
    check_ttl: Option<Period>,
    /// How often to check [default: 10s].
    #[arg(long, value_name = "DURATION", requires = "check")]
    interval: Option<Period>,
    /// The longest a check may take [default: the daemon's].
    #[arg(long, value_name = "DURATION", requires = "check")]
    timeout: Option<Period>,
    /// Whose instance it is: an id that belongs to another owner is not taken over.
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
}

/// Arguments of `rollcall deregister`.
#[derive(Debug, clap::Args)]
pub(super) struct Deregistration {
    #[command(flatten)]
    client: Client,
    /// The id of an instance, not the name of its service.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Take them out of service first, and leave them this long to finish what they have begun.
    #[arg(long, value_name = "TIME")]
    drain: Option<Period>,
}

/// Arguments of `rollcall undo`.
#[derive(Debug, clap::Args)]
pub(super) struct Undo {
    #[command(flatten)]
    client: Client,
    /// The id of the instance.
    #[arg(value_name = "ID")]
    id: String,
}

/// Registers one instance after the other; one that is refused does not keep back the others.
pub(super) async fn run(args: Args, out: &mut impl Write) -> anyhow::Result<Exit> {
    let definitions = match args.definitions() {
        Ok(definitions) => definitions,
        Err(error) => {
            eprintln!("rollcall: {error:#}");
            return Ok(Exit::Usage);
        }
    };
    let mut exit = Exit::Ok;
    for definition in definitions {
        let id = id_of(&definition).to_owned();
        match register(&args.client, &definition).await {
            Ok(()) => writeln!(out, "{id} is registered")?,
            Err(error) => {
                eprintln!("rollcall: cannot register {id:?}: {error:#}");
                exit = Exit::Failure;
            }
        }
    }
    Ok(exit)
}

/// Deregisters one instance after the other, like [`run`]; drains all of them first, if asked to.
/// Ended while they drain, it leaves them in maintenance.
pub(super) async fn deregister(args: Deregistration, out: &mut impl Write) -> anyhow::Result<Exit> {
    let Deregistration { client, mut ids, drain } = args;
    let all = ids.len();
    if let Some(time) = drain {
        let path = |id: &str| {
            let query = "enable=true&reason=draining%2C+to+be+deregistered";
            format!("/v1/agent/service/maintenance/{}?{query}", escape(id))
        };
        ids = each(&client, &ids, path, ("drain", "is draining"), out).await?;
        if !ids.is_empty() {
            out.flush()?;
            tokio::time::sleep(time.into()).await;
        }
    }
    let path = |id: &str| format!("/v1/agent/service/deregister/{}", escape(id));
    let done = each(&client, &ids, path, ("deregister", "is deregistered"), out).await?;
    Ok(if done.len() == all { Exit::Ok } else { Exit::Failure })
}

/// Sends a PUT for each id, and says what has come of it. Gives back those that it has worked for.
async fn each(
    client: &Client,
    ids: &[String],
    path: impl Fn(&str) -> String,
    (what, done): (&str, &str),
    out: &mut impl Write,
) -> anyhow::Result<Vec<String>> {
    let mut taken = Vec::new();
    for id in ids {
        match put(client, &path(id)).await {
            Ok(()) => {
                writeln!(out, "{id} {done}")?;
                taken.push(id.clone());
            }
            Err(error) => eprintln!("rollcall: cannot {what} {id:?}: {error:#}"),
        }
    }
    Ok(taken)
}

/// Brings back an instance that the daemon has deregistered by itself.
pub(super) async fn undo(args: Undo, out: &mut impl Write) -> anyhow::Result<Exit> {
    let id = &args.id;
    put(&args.client, &format!("{}/{}", UNDO, escape(id)))
        .await
        .with_context(|| format!("cannot bring back {id:?}"))?;
    writeln!(out, "{id} is registered again")?;
    Ok(Exit::Ok)
}

/// Sends a PUT without a body, to which the answer is nothing.
pub(super) async fn put(client: &Client, path: &str) -> anyhow::Result<()> {
    client.call(&Call::put(path, "")).await?.success().map(drop)
}

/// Registers an instance. If the connection is lost, it is said once more under the same key, by
/// which the daemon knows it again.
async fn register(client: &Client, definition: &Value) -> anyhow::Result<()> {
    let key = uuid::Uuid::new_v4().to_string();
    let call = Call::put(REGISTER, definition.to_string())
        .header("content-type", "application/json")
        .header("idempotency-key", &key);
    let answer = match client.call(&call).await {
        Err(error) if error.is::<Lost>() => client.call(&call).await,
        answer => answer,
    }?;
    match answer.status {
        StatusCode::CONFLICT => bail!("{}; see --owner", answer.text()),
        _ => answer.success().map(drop),
    }
}

impl Args {
    /// What is to be registered, as the API takes it.
    fn definitions(&self) -> anyhow::Result<Vec<Value>> {
        let mut definitions = match (&self.file, &self.name) {
            (Some(path), _) => {
                let shown = path.display();
                let text = read(path).with_context(|| format!("cannot read {shown}"))?;
                parse(&text).with_context(|| format!("{shown} is no service definition"))?
            }
            (None, Some(name)) => vec![self.definition(name)],
            (None, None) => bail!("neither FILE nor --name is given"),
        };
        if let Some(owner) = &self.owner {
            for definition in &mut definitions {
                set_owner(definition, owner)?;
            }
        }
        Ok(definitions)
    }

    fn definition(&self, name: &str) -> Value {
        let mut definition = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            value.map(|value| definition.insert(key.to_owned(), value));
        };
        set("Name", Some(json!(name)));
        set("ID", self.id.as_ref().map(|id| json!(id)));
        set("Address", self.address.as_ref().map(|address| json!(address)));
        set("Port", self.port.map(|port| json!(port)));
        set("Tags", (!self.tag.is_empty()).then(|| json!(self.tag)));
        let meta: Map<_, _> =
            self.meta.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        set("Meta", (!meta.is_empty()).then_some(Value::Object(meta)));
        set("Check", self.check());
        Value::Object(definition)
    }

    fn check(&self) -> Option<Value> {
        if let Some(ttl) = self.check_ttl {
            return Some(json!({ "TTL": client::duration(ttl.get()) }));
        }
        let kinds =
            [("HTTP", &self.check_http), ("TCP", &self.check_tcp), ("GRPC", &self.check_grpc)];
        let (kind, target) =
            kinds.iter().find_map(|(kind, target)| Some((*kind, target.as_ref()?)))?;
        let interval = self.interval.unwrap_or(Period::from_secs(10));
        let mut check = json!({ kind: target, "Interval": client::duration(interval.get()) });
        if let Some(timeout) = self.timeout {
            check["Timeout"] = json!(client::duration(timeout.get()));
        }
        Some(check)
    }
}

fn read(path: &std::path::Path) -> std::io::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path)
}

/// The definitions in a file: under `services`, under `service`, or the object itself.
fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let value: Value = serde_json::from_str(text).context("it is not JSON")?;
    let definitions = match (field(&value, "services"), field(&value, "service")) {
        (Some(Value::Array(several)), _) => several.clone(),
        (Some(_), _) => bail!("`services` must be a list"),
        (None, Some(one @ Value::Object(_))) => vec![one.clone()],
        (None, _) => vec![value],
    };
    if definitions.is_empty() {
        bail!("it has no services");
    }
    for (index, definition) in definitions.iter().enumerate() {
        if !definition.is_object() {
            bail!("service {}: write an object such as {{\"name\": \"web\"}}", index + 1);
        }
        if id_of(definition).is_empty() {
            bail!("service {} has no `name`", index + 1);
        }
    }
    Ok(definitions)
}

/// A field of an object; the case of its name does not matter.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let (_, value) =
        value.as_object()?.iter().find(|(key, value)| is(key, name) && !value.is_null())?;
    Some(value)
}

fn is(key: &str, name: &str) -> bool {
    key.eq_ignore_ascii_case(name)
}

fn id_of(definition: &Value) -> &str {
    let text = |name| field(definition, name).and_then(Value::as_str).filter(|id| !id.is_empty());
    text("id").or_else(|| text("name")).unwrap_or_default()
}

fn set_owner(definition: &mut Value, owner: &str) -> anyhow::Result<()> {
    let fields = definition.as_object_mut().context("a service is not an object")?;
    let key = fields.keys().find(|key| is(key, "meta")).cloned().unwrap_or_else(|| "Meta".into());
    let meta = fields.entry(key).or_insert(Value::Null);
    if meta.is_null() {
        *meta = json!({});
    }
    let meta = meta.as_object_mut().context("`meta` must be an object")?;
    meta.insert(OWNER.to_owned(), json!(owner));
    Ok(())
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write key=value"),
    }
}

#[cfg(test)]
mod tests;
