//! Selectors: which objects of a collection a request is about.
//!
//! Two selectors that were written differently but ask for the same have the same canonical text, as far as
//! that can be seen from the requirements one by one.

mod fields;
mod labels;

pub use fields::FieldSelector;
pub use labels::LabelSelector;
