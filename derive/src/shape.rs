//! Owns the fingerprint of a type's shape: what stands in its declaration and changes how its values are written.
//!
//! Names and types of fields, names of variants, serde's attributes, and the indexes count, in their order; the type's own name, documentation and
//! visibility do not. The types of fields count by what is written there: a change *inside* a type that is named there is not seen.
//! The fingerprint is FNV-1a over the tokens, 32 bits, as hex: it is compared with itself only, and a miss of one in four thousand
//! million is no danger to a reviewer's aid.

use crate::indexed::Index;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Data, DeriveInput, Fields};

/// Eight hex digits.
pub(crate) fn fingerprint(input: &DeriveInput, indexes: &[Index]) -> String {
    let mut sum = Sum(0x811c_9dc5);
    sum.serde(&input.attrs);
    match &input.data {
        Data::Struct(data) => sum.fields(&data.fields),
        Data::Enum(data) => {
            for variant in &data.variants {
                sum.word("variant");
                sum.serde(&variant.attrs);
                sum.word(&variant.ident.to_string());
                sum.fields(&variant.fields);
            }
        }
        Data::Union(_) => {}
    }
    indexes.iter().flat_map(Index::says).for_each(|word| sum.word(word));
    format!("{:08x}", sum.0)
}

struct Sum(u32);

impl Sum {
    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }

    fn word(&mut self, word: &str) {
        word.bytes().for_each(|byte| self.byte(byte));
        self.byte(0);
    }

    fn fields(&mut self, fields: &Fields) {
        self.word(match fields {
            Fields::Named(_) => "named",
            Fields::Unnamed(_) => "unnamed",
            Fields::Unit => "unit",
        });
        for field in fields {
            self.serde(&field.attrs);
            if let Some(name) = &field.ident {
                self.word(&name.to_string());
            }
            self.tokens(field.ty.to_token_stream());
            self.word(",");
        }
    }

    fn serde(&mut self, attributes: &[Attribute]) {
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            self.tokens(attribute.meta.to_token_stream());
        }
    }

    /// Token by token: how a stream prints its spaces is not settled by anybody.
    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::None => ("", ""),
                    };
                    self.word(open);
                    self.tokens(group.stream());
                    self.word(close);
                }
                token => self.word(&token.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn what_is_written_differently_has_another_fingerprint() {
        let page: DeriveInput = parse_quote! { struct Page { title: String, parent: Option<Ref<Page>> } };
        let same: DeriveInput = parse_quote! {
            /// Documented.
            pub struct Another { pub title: String, #[doc = "x"] parent: Option < Ref < Page >> }
        };
        assert_eq!(fingerprint(&page, &[]), fingerprint(&same, &[]));
        assert_eq!(
            fingerprint(&page, &[]),
            "f8c80158",
            "attributes that stand in programs hold this: it never changes"
        );
        let others: Vec<DeriveInput> = vec![
            parse_quote! { struct Page { name: String, parent: Option<Ref<Page>> } },
            parse_quote! { struct Page { parent: Option<Ref<Page>>, title: String } },
            parse_quote! { struct Page { title: String, parent: Option<Ref<Topic>> } },
            parse_quote! { struct Page { title: String, parent: Option<Ref<Page>>, more: () } },
            parse_quote! { struct Page { #[serde(skip)] title: String, parent: Option<Ref<Page>> } },
            parse_quote! { #[serde(transparent)] struct Page { title: String, parent: Option<Ref<Page>> } },
            parse_quote! { struct Page(String, Option<Ref<Page>>); },
            parse_quote! { struct Page; },
            parse_quote! { enum Page { A, B } },
            parse_quote! { enum Page { B, A } },
            parse_quote! { enum Page { A, B(u8) } },
        ];
        let mut sums: Vec<String> = others.iter().chain([&page]).map(|shape| fingerprint(shape, &[])).collect();
        sums.sort();
        sums.dedup();
        assert_eq!(sums.len(), others.len() + 1);
    }
}
