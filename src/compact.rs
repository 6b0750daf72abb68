//! Containers that cost little for each entry, where there are hundreds of thousands of them.

mod few;
mod keyed;
mod pairs;

pub use self::{
    few::Few,
    keyed::{ByKey, Keyed, Keys},
    pairs::Pairs,
};
