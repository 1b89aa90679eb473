//! Owns `#[derive(Key)]`: a struct as the tuple of its fields.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Index, Member, Result, Type, parse_quote};

const NO_STRUCT: &str =
    "keys are structs: derive `Key` for a struct that has the parts, or implement `AsKey` and `Key`";

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let data = match &input.data {
        Data::Struct(data) => data,
        Data::Enum(of) => return Err(Error::new(of.enum_token.span, NO_STRUCT)),
        Data::Union(of) => return Err(Error::new(of.union_token.span, NO_STRUCT)),
    };
    let Some((last, inner)) = named(&data.fields).split_last().map(|(last, inner)| (last.clone(), inner.to_vec()))
    else {
        let message = "a key without a field has no bytes, and the empty key is the object itself; give it a field";
        return Err(Error::new(input.ident.span(), message));
    };
    Ok(impls(input, &inner, &last))
}

/// The fields with the names by which they are reached.
fn named(fields: &Fields) -> Vec<(Member, &Field)> {
    let member = |(at, field): (usize, &'_ Field)| match &field.ident {
        Some(name) => Member::Named(name.clone()),
        None => Member::Unnamed(Index::from(at)),
    };
    fields.iter().enumerate().map(|(at, field)| (member((at, field)), field)).collect()
}

fn impls(input: &DeriveInput, inner: &[(Member, &Field)], last: &(Member, &Field)) -> TokenStream {
    let put = |(member, field): &(Member, &Field), call: TokenStream, to: TokenStream| {
        quote_spanned! {field.ty.span()=> ::zeolite_client::keys::AsKey::#call(&self.#member, #to); }
    };
    let take = |(member, field): &(Member, &Field), call: TokenStream| {
        let kind = &field.ty;
        quote_spanned! {kind.span()=> #member: <#kind as ::zeolite_client::keys::Key>::#call(input)?, }
    };
    let puts: Vec<_> = inner.iter().map(|field| put(field, quote!(put_inner), quote!(out))).collect();
    let takes: Vec<_> = inner.iter().map(|field| take(field, quote!(take_inner))).collect();
    let refs = inner.iter().chain([last]).map(|field| put(field, quote!(put_refs), quote!(refs)));
    let (put_last, put_inner) = (put(last, quote!(put_last), quote!(out)), put(last, quote!(put_inner), quote!(out)));
    let (take_last, take_inner) = (take(last, quote!(take_last)), take(last, quote!(take_inner)));
    let name = &input.ident;
    let (as_key, key) = (
        bounded(input, &parse_quote!(::zeolite_client::keys::AsKey)),
        bounded(input, &parse_quote!(::zeolite_client::keys::Key)),
    );
    let (of, types, _) = input.generics.split_for_impl();
    let prefixed = inner.first().map(|(_, first)| prefixed(input, &first.ty));
    let kind = kind(inner, last);
    let (as_key_where, key_where) = (&as_key.where_clause, &key.where_clause);
    quote! {
        #[automatically_derived]
        impl #of ::zeolite_client::keys::AsKey for #name #types #as_key_where {
            fn put_last(&self, out: &mut ::std::vec::Vec<u8>) { #(#puts)* #put_last }
            fn put_inner(&self, out: &mut ::std::vec::Vec<u8>) { #(#puts)* #put_inner }
            fn put_refs(&self, refs: &mut ::std::vec::Vec<::zeolite_client::Oid>) { #(#refs)* }
        }
        #[automatically_derived]
        impl #of ::zeolite_client::keys::Key for #name #types #key_where {
            const KIND: ::zeolite_client::keys::KeyKind = #kind;

            fn take_last(input: &mut &[u8]) -> ::std::result::Result<Self, ::zeolite_client::keys::BadKey> {
                ::std::result::Result::Ok(Self { #(#takes)* #take_last })
            }
            fn take_inner(input: &mut &[u8]) -> ::std::result::Result<Self, ::zeolite_client::keys::BadKey> {
                ::std::result::Result::Ok(Self { #(#takes)* #take_inner })
            }
        }
        #prefixed
    }
}

/// What its keys are: those of the only field, or of all, one after the other.
fn kind(inner: &[(Member, &Field)], last: &(Member, &Field)) -> TokenStream {
    let of = |(_, field): &(Member, &Field)| {
        let kind = &field.ty;
        quote_spanned! {kind.span()=> <#kind as ::zeolite_client::keys::Key>::KIND }
    };
    let last = of(last);
    if inner.is_empty() {
        return last;
    }
    let inner = inner.iter().map(of);
    quote! { ::zeolite_client::keys::KeyKind::Parts(&[#(#inner,)* #last]) }
}

/// That its keys can be asked for by their first part.
fn prefixed(input: &DeriveInput, first: &Type) -> TokenStream {
    let mut generics = bounded(input, &parse_quote!(::zeolite_client::keys::Key));
    let name = &input.ident;
    generics.params.push(parse_quote!(__Part: ::zeolite_client::keys::AsKey + ?::std::marker::Sized));
    generics.make_where_clause().predicates.push(parse_quote!(#first: ::std::borrow::Borrow<__Part>));
    let (of, _, bounds) = generics.split_for_impl();
    let (_, types, _) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #of ::zeolite_client::keys::Prefixed<__Part> for #name #types #bounds {}
    }
}

/// The type's parameters, each of which must be a key itself.
fn bounded(input: &DeriveInput, bound: &syn::Path) -> syn::Generics {
    let mut generics = input.generics.clone();
    let types: Vec<_> = generics.type_params().map(|param| param.ident.clone()).collect();
    for each in types {
        generics.make_where_clause().predicates.push(parse_quote!(#each: #bound));
    }
    generics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_key_is_told_why() {
        let refusal = |input: DeriveInput| derive(&input).expect_err("is refused").to_string();
        assert!(refusal(parse_quote! { enum E { A, B } }).contains("keys are structs"));
        assert!(refusal(parse_quote! { struct Unit; }).contains("a key without a field has no bytes"));
        assert!(refusal(parse_quote! { struct Empty {} }).contains("a key without a field has no bytes"));
    }
}
