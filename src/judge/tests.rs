//! Table and properties of the judge.
