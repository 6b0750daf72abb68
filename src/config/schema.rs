//! The JSON Schema of the configuration file.
//!
//! schemars describes the structs; what it cannot know is put right here: that an option is left
//! out rather than `null`, and names for sections whose types all are called `Config` or `Spec`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::File;

const DEFS: &str = "#/$defs/";

/// The JSON Schema (draft 2020-12) of [`File`], for editors.
pub fn schema() -> Value {
    let mut root = schemars::schema_for!(File).to_value();
    simplify(&mut root);
    let names = names(&root);
    rename(&mut root, &names);
    if let Some(Value::Object(defs)) = root.get_mut("$defs") {
        *defs = std::mem::take(defs)
            .into_iter()
            .map(|(name, def)| (names.get(&name).cloned().unwrap_or(name), def))
            .collect();
    }
    root
}

/// Takes out `null`, Rust's integer formats, and line breaks of the source's width.
fn simplify(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Object(map) => {
            map.values_mut().for_each(simplify);
            simplify_object(map);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn simplify_object(map: &mut Map<String, Value>) {
    if map.get("default") == Some(&Value::Null) {
        map.remove("default");
    }
    if map.get("format").and_then(Value::as_str).is_some_and(|f| f.starts_with("uint")) {
        map.remove("format");
    }
    if let Some(Value::String(text)) = map.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|name| name != "null");
        if let [single] = &mut types[..] {
            map["type"] = single.take();
        }
    }
    if let Some(Value::Array(options)) = map.get_mut("anyOf") {
        options.retain(|option| option.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(single)] = &mut options[..] {
            let single = std::mem::take(single);
            map.remove("anyOf");
            for (key, value) in single {
                map.entry(key).or_insert(value);
            }
        }
    }
}

/// Better names for definitions: their titles, or the key that they describe.
fn names(root: &Value) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let empty = Map::new();
    let defs = root.get("$defs").and_then(Value::as_object).unwrap_or(&empty);
    for (name, def) in defs {
        if let Some(title) = def.get("title").and_then(Value::as_str) {
            names.insert(name.clone(), title.to_owned());
        }
    }
    for (key, property) in properties(root) {
        if let Some(name) = referred(property).filter(|name| name.starts_with("Config")) {
            names.insert(name.to_owned(), capitalised(key));
        }
    }
    names
}

/// A key's words, each with a capital letter, as one.
fn capitalised(key: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    key.split('_').map(word).collect()
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref")
                && let Some(name) = target.strip_prefix(DEFS).and_then(|name| names.get(name))
            {
                *target = format!("{DEFS}{name}");
            }
            map.values_mut().for_each(|value| rename(value, names));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The keys of an object's schema with their schemas.
pub(super) fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// The name of the definition that a schema refers to.
pub(super) fn referred(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(DEFS)
}
