//! The reference of the configuration, made from its JSON Schema.
