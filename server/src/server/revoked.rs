//! Owns the lists of revoked certificates: each is judged as a whole before it counts.
//!
//! What checks a client's certificate looks at a list's signature at each handshake, takes the first list with the issuer's name, and refuses the
//! client if that one's signature is wrong. So a list that does not belong to its CA would lock out all of its clients. Here such a list is an error of the
//! files, like a certificate without its key: the former stay in force, and that is told.
//!
//! ```text
//!   each list ── names a CA of tls.client_ca? ── the only CA and the only list of that name? ── signed by its key? ──> in force
//! ```
//! Not done: lists that another one than the CA has signed (indirect ones), and two CAs of one name with a list: nothing tells then which is meant.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode, Encode, Reader, SliceReader};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::{Certificate, name::Name};

/// Why these lists cannot count for these CAs.
pub(super) fn check(
    lists: &[CertificateRevocationListDer<'_>],
    cas: &[CertificateDer<'_>],
    known: &WebPkiSupportedAlgorithms,
) -> Result<(), String> {
    let cas: Vec<Certificate> = cas.iter().filter_map(|ca| Certificate::from_der(ca).ok()).collect();
    let mut seen: Vec<Name> = Vec::new();
    for der in lists {
        let list = CertificateList::from_der(der).map_err(|error| format!("a list cannot be read ({error})"))?;
        let issuer = list.tbs_cert_list.issuer.clone();
        let mut named = cas.iter().filter(|ca| ca.tbs_certificate.subject == issuer);
        let ca = named.next().ok_or_else(|| format!("a list is of {issuer}, which is no CA in tls.client_ca"))?;
        if named.next().is_some() || seen.contains(&issuer) {
            return Err(format!(
                "there are two CAs or two lists with the name {issuer}; keep one of each, or no list of that name"
            ));
        }
        if !is_signed(der, &list, ca, known) {
            return Err(format!(
                "the list of {issuer} is not signed by the key of that CA in tls.client_ca, or in a way that is not trusted (SHA-1)"
            ));
        }
        seen.push(issuer);
    }
    Ok(())
}

fn is_signed(der: &[u8], list: &CertificateList, ca: &Certificate, known: &WebPkiSupportedAlgorithms) -> bool {
    let key = &ca.tbs_certificate.subject_public_key_info;
    let (Some(signed), Some(signature)) = (signed_part(der), list.signature.as_bytes()) else { return false };
    let Some(public) = key.subject_public_key.as_bytes() else { return false };
    let (by, of) = (inner(&list.signature_algorithm), inner(&key.algorithm));
    known.all.iter().any(|way| {
        by.as_deref() == Some(way.signature_alg_id().as_ref())
            && of.as_deref() == Some(way.public_key_alg_id().as_ref())
            && way.verify_signature(public, signed, signature).is_ok()
    })
}

/// The bytes that a signature is of: the first part of the list, as it stands there.
fn signed_part(der: &[u8]) -> Option<&[u8]> {
    let mut reader = SliceReader::new(der).ok()?;
    let header = x509_cert::der::Header::decode(&mut reader).ok()?;
    let body = reader.read_slice(header.length).ok()?;
    SliceReader::new(body).ok()?.tlv_bytes().ok()
}

/// An identifier without the sequence around it, as rustls has it.
fn inner(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    match algorithm.to_der().ok()?.as_slice() {
        [0x30, length, rest @ ..] if usize::from(*length) == rest.len() => Some(rest.to_vec()),
        _ => None,
    }
}
