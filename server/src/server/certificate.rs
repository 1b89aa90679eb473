//! Owns what a certificate says of itself: when it ends, and the names in it.

use crate::auth::authority::Certified;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// `id-at-commonName`.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// So many names of one certificate are looked at.
const NAMES_MAX: usize = 64;

/// When it ends, in milliseconds since 1970.
pub(super) fn expires_unix_ms(certificate: &CertificateDer<'_>) -> Result<u64, String> {
    read(certificate).map(|certificate| ends(&certificate))
}

/// Its common name, then its other names (DNS, URI, mail), in their order, and its end. Call it with what was verified only.
pub(super) fn certified(certificate: &CertificateDer<'_>) -> Certified {
    read(certificate).map_or_else(
        |_| Certified::default(),
        |certificate| Certified { names: names(&certificate), until_unix_s: ends(&certificate) / 1000 },
    )
}

fn ends(certificate: &Certificate) -> u64 {
    let ends = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    u64::try_from(ends.as_millis()).unwrap_or(u64::MAX)
}

fn names(certificate: &Certificate) -> Vec<String> {
    let subject = &certificate.tbs_certificate.subject;
    let common = subject.0.iter().flat_map(|parts| parts.0.iter()).filter(|part| part.oid == COMMON_NAME);
    let common = common.filter_map(|part| {
        let value = &part.value;
        match value.tag() {
            Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
            Tag::PrintableString => {
                value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned())
            }
            Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
            _ => None,
        }
    });
    let others = certificate.tbs_certificate.get::<SubjectAltName>().ok().flatten();
    let others = others.into_iter().flat_map(|(_, names)| names.0).filter_map(|name| match name {
        GeneralName::DnsName(name) | GeneralName::UniformResourceIdentifier(name) | GeneralName::Rfc822Name(name) => {
            Some(name.as_str().to_owned())
        }
        _ => None,
    });
    common.chain(others).take(NAMES_MAX).collect()
}

fn read(certificate: &CertificateDer<'_>) -> Result<Certificate, String> {
    Certificate::from_der(certificate).map_err(|error| format!("it is no X.509 certificate ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    #[test]
    fn a_certificate_tells_its_end_and_its_names_the_common_one_first() {
        let mut params = CertificateParams::new(vec!["web.example.org".to_owned()]).expect("a name");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "shop");
        params.subject_alt_names.push(SanType::URI("spiffe://example/shop".try_into().expect("plain")));
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let made = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let told = certified(made.der());
        assert_eq!(told.names, ["shop", "web.example.org", "spiffe://example/shop"]);
        assert_eq!((told.until_unix_s, expires_unix_ms(made.der())), (1_927_843_200, Ok(1_927_843_200_000)));
        let nothing = CertificateDer::from(vec![1, 2, 3]);
        assert!(certified(&nothing).names.is_empty() && expires_unix_ms(&nothing).is_err());
    }
}
