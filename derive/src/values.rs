//! Owns how the value of a word of an attribute is read: what is wrong with it is told as one would write it, and not in the words of Rust's
//! grammar, in which a type may begin in a dozen ways.

use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::{Expr, ExprLit, Lit, LitStr, Result};

/// The value of a word; `what` it is, and an `example` of the word with one.
pub(crate) fn value<T: Parse>(word: &ParseNestedMeta<'_>, what: &str, example: &str) -> Result<T> {
    let Ok(value) = word.value() else {
        return Err(word.error(format!("here belongs {what}: {example}")));
    };
    let is_text = value.peek(LitStr);
    value.parse().map_err(|bad| {
        let quotes = if is_text { ", without quotes" } else { "" };
        syn::Error::new(bad.span(), format!("here belongs {what}{quotes}: {example}"))
    })
}

/// An expression that is no text.
pub(crate) fn function(word: &ParseNestedMeta<'_>, example: &str) -> Result<Expr> {
    let what = "a function or a closure";
    match value(word, what, example)? {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            Err(syn::Error::new(text.span(), format!("here belongs {what}, without quotes: {example}")))
        }
        function => Ok(function),
    }
}
