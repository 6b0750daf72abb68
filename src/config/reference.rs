//! The reference of the configuration, `docs/configuration.md`, made from its JSON Schema.

use serde_json::Value;

use super::schema::{properties, referred, schema};

/// What the reference opens with; the example is loaded by a test.
const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the doc comments in src/ by `UPDATE_EXPECT=1 cargo test --test it`. -->

`rollcall run --config FILE` reads one YAML file (JSON will do, being YAML). Every key has a
default, so an empty file will do, too; flags go before the file. `rollcall validate FILE` says
what is wrong with a file, all at once, or what would run; `rollcall schema` prints the JSON Schema
for editors.

- Keys that are not known, and keys given twice, are errors.
- Durations are numbers with a unit: `250ms`, `5s`, `1m30s`, `1h`, `1d`.
- Scalars are read by YAML 1.2: `true` and `false` are the only truth values.
- Anchors and aliases may be used; merge keys (`<<`) may not: use `check_defaults`.
- A list or mapping without a value is an empty one: `tcp:` is `tcp: {}`.

## Example

```yaml
";

/// A file that uses most of what there is.
pub const EXAMPLE: &str = include_str!("example.yaml");

/// What the reference says of Consul's files.
const CONSUL: &str = "
## Consul service definitions

The files that `service_files` names are read as Consul reads them: `service` or `services`, with
`check` or `checks` inside or beside (with a `service_id`), in snake case or camel case, JSON only.
Defaults are Consul's: a timeout of 10s, one result decides, redirects are followed up to 10 times,
intervals below 1s are raised to 1s. A service without an address is at 127.0.0.1. An
address that is neither an IP address nor a DNS name is only shown, which a warning says. Keys that are
not known are passed over, and empty texts are absent. Where counts in a row are given, the first answer
of all takes effect at once all the same. The counts are of runs, an interval apart, as in Consul, unless
a check has one of two keys more, which Consul passes over: `confirm_probes` and `tripwire`, as checks of
this file have them, but none and false by default.

Checks by `http`, `tcp`, `udp`, `grpc` and `h2ping` are run; the default timeout of `udp` is at most
four fifths of the interval, since a probe of a silent target, which is a success, takes that long.
So are those by `args` (`script_args`), if `checks.exec` allows it, else they are errors; their default
timeout is 30s. Of what a program writes the last 4096 bytes are shown, and of a body that is answered
to `http` as many, or `output_max_size` if that is less, on success as on failure; of a body of more
than 64 KiB the first 64 KiB are read.
Checks by `ttl` are told by whoever reports for them, at least that often, and those by
`alias_service` and `alias_node` follow other checks; nothing is asked for either.
Of the kinds `script` (a text for a shell), `docker_container_id` and `os_service` a warning says
that the service is loaded without the check. `status` is what Consul's API says of a check before its
first result, `critical` if there is none; the check itself is `unknown` until then.
`deregister_critical_service_after` is read and not acted on, which a warning says. Settings that are
seldom meant are warned of as in this file, if they are written there: Consul's defaults are not.
";

/// The whole document.
pub fn markdown() -> String {
    let root = schema();
    let mut out = format!("{INTRODUCTION}{EXAMPLE}```\n\n## The file\n\n");
    out.push_str(&table(&root, &root));
    for name in sections(&root) {
        let section = &root["$defs"][&name];
        let description = section["description"].as_str().unwrap_or_default();
        out.extend(["\n## ", &name, "\n\n", description, "\n\n", &table(section, &root)]);
    }
    out.push_str(CONSUL);
    out
}

/// The definitions that have keys of their own, in the order in which a reader meets them.
fn sections(root: &Value) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut next = 0;
    collect(root, root, &mut names);
    while let Some(name) = names.get(next).cloned() {
        collect(&root["$defs"][&name], root, &mut names);
        next += 1;
    }
    names
}

fn collect(schema: &Value, root: &Value, names: &mut Vec<String>) {
    for (_, property) in properties(schema) {
        if let Some(name) = target(property)
            && root["$defs"][name].get("properties").is_some()
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    }
}

/// The definition a value, the items of a list or the values of a mapping refer to, also as one
/// of several forms.
fn target(schema: &Value) -> Option<&str> {
    let inner = || {
        let inner = schema.get("items").or_else(|| schema.get("additionalProperties"))?;
        target(inner)
    };
    let options = || schema.get("anyOf")?.as_array()?.iter().find_map(target);
    referred(schema).or_else(inner).or_else(options)
}

fn table(schema: &Value, root: &Value) -> String {
    let mut out = String::from("| key | type | default | meaning |\n|---|---|---|---|\n");
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, property) in properties(schema) {
        let description = property["description"].as_str().unwrap_or_default();
        let (meaning, said) = split_default(description);
        let default = match (said, property.get("default")) {
            _ if required.contains(&key.as_str()) => "required".to_owned(),
            (Some(said), _) => said,
            (None, Some(default)) => format!("`{}`", inline(default)),
            (None, None) if property["type"] == "array" => "`[]`".to_owned(),
            (None, None) => "see there".to_owned(),
        };
        let kind = kind(property, root);
        let meaning = meaning.replace('|', "\\|");
        out.extend(["| `", key, "` | ", &kind, " | ", &default, " | ", &meaning, " |\n"]);
    }
    out
}

/// A default as it would be written in YAML.
fn inline(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Takes the sentence that says the default out of a description.
fn split_default(text: &str) -> (String, Option<String>) {
    let text = text.replace(" Required.", "");
    let Some((before, after)) = text.split_once("Default: ") else { return (text, None) };
    let end = after.find(". ").map_or(after.len(), |at| at + 1);
    let (said, rest) = after.split_at(end);
    let meaning = format!("{}{rest}", before.trim_end());
    (meaning, Some(said.trim_end_matches('.').to_owned()))
}

fn kind(schema: &Value, root: &Value) -> String {
    if let Some(name) = referred(schema) {
        let target = &root["$defs"][name];
        if target.get("properties").is_some() {
            return format!("[{name}](#{})", name.to_lowercase());
        }
        return match name {
            "Duration" => "duration".to_owned(),
            _ => kind(target, root),
        };
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(options) = schema[key].as_array() {
            let kinds: Vec<_> = options.iter().map(|option| kind(option, root)).collect();
            return kinds.join(" or ");
        }
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", inline(value));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values.iter().map(|value| format!("`{}`", inline(value))).collect();
        return values.join(" or ");
    }
    match &schema["type"] {
        Value::String(name) => simple(name, schema, root),
        Value::Array(names) => {
            let names: Vec<_> =
                names.iter().filter_map(Value::as_str).map(|n| simple(n, schema, root)).collect();
            names.join(" or ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "any".to_owned(),
    }
}

fn simple(name: &str, schema: &Value, root: &Value) -> String {
    match name {
        "array" => format!("list of {}", kind(&schema["items"], root)),
        "object" => format!("mapping to {}", kind(&schema["additionalProperties"], root)),
        "integer" => match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
            (Some(low), Some(high)) => format!("{low} to {high}"),
            (Some(low), None) => format!("whole number from {low}"),
            (None, _) => "whole number".to_owned(),
        },
        "string" => "text".to_owned(),
        other => other.to_owned(),
    }
}
