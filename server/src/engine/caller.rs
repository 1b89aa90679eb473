//! Owns who asks: whose it will be, in which role (the mode looks at it), and which client (an operator looks for it).
//!
//! Each draft carries it to its end, so it is small and shares its names: a clone copies no text.

use crate::engine::share::Share;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use zeolite_proto::{Role, TraceContext};

/// Characters kept of a client's name.
const NAME_CHARS_MAX: usize = 100;
/// Of what a client calls a request.
const REQUEST_BYTES_MAX: usize = 64;

/// To whom pins and prepared drafts belong: nobody else can end or extend them. Not a connection: whoever lost the line
/// goes on in the next one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Owner(Option<Arc<str>>);

impl Owner {
    /// Everybody who has no name.
    pub fn anonymous() -> Owner {
        Owner(None)
    }

    /// Who has proved to have this name.
    pub fn named(name: &str) -> Owner {
        Owner(Some(name.into()))
    }

    /// The name; `None`: anonymous.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Whose prepared draft is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    /// This owner's: those of others are told to nobody.
    Of(Owner),
    /// Anybody's: an operator asks.
    Anybodys,
}

impl Whose {
    pub(crate) fn includes(&self, owner: &Owner) -> bool {
        match self {
            Whose::Of(own) => own == owner,
            Whose::Anybodys => true,
        }
    }
}

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// Whose what it makes will be.
    pub owner: Owner,
    /// As what; its rights were checked before.
    pub role: Role,
    /// Which program.
    pub client: Client,
    /// How much it may have of what all have together.
    pub share: Share,
    /// By what its request is known beside that.
    pub mark: Mark,
}

/// By what a request is known, for logs and traces.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// What it is called.
    pub id: RequestId,
    /// Who traces it, if it is to be kept: the span is that of which the commit's stages are parts. Boxed: every draft
    /// carries it, and few have it.
    pub trace: Option<Box<TraceContext>>,
}

/// What a request is called in logs and faults.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RequestId {
    /// Nothing: the server's own, or the program's that has it inside.
    #[default]
    None,
    /// By its session and the frame's id; session 0: the so-many-th call without one.
    Numbered {
        /// The session's number.
        session: u64,
        /// Unique in it among those in flight.
        id: u64,
    },
    /// As its client says.
    Given(Arc<str>),
}

impl RequestId {
    /// What a client may call its request: nothing that a line of a log would stumble over.
    pub fn given(text: &str) -> Option<RequestId> {
        let is_good = (1..=REQUEST_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| RequestId::Given(text.into()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestId::None => Ok(()),
            RequestId::Numbered { session: 0, id } => write!(to, "call-{id}"),
            RequestId::Numbered { session, id } => write!(to, "{session}-{id}"),
            RequestId::Given(text) => to.write_str(text),
        }
    }
}

/// Which client asks for a write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Client {
    /// None: the server itself, or the program that has it inside.
    #[default]
    Inside,
    /// The one of this name, as it said.
    Named(Arc<str>),
    /// The one that has not said its name, at this address.
    At(SocketAddr),
}

impl Client {
    /// A client by its name, which may be empty, and its address, if that is known.
    pub fn new(name: &str, address: Option<SocketAddr>) -> Client {
        match address {
            _ if !name.is_empty() => Client::Named(name.chars().take(NAME_CHARS_MAX).collect::<String>().into()),
            Some(address) => Client::At(address),
            None => Client::Inside,
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Inside => Ok(()),
            Client::Named(name) => to.write_str(name),
            Client::At(address) => address.fmt(to),
        }
    }
}

/// Somebody inside of the server's own program.
impl From<Role> for Caller {
    fn from(role: Role) -> Caller {
        Caller { role, ..Caller::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_called_what_its_client_says_or_by_its_numbers() {
        assert_eq!(RequestId::given("checkout/7").map(|id| id.to_string()).as_deref(), Some("checkout/7"));
        for odd in ["", "a b", "a\nb", "\u{e9}", &"x".repeat(65)] {
            assert_eq!(RequestId::given(odd), None, "{odd:?}");
        }
        let numbered = |session| RequestId::Numbered { session, id: 7 }.to_string();
        assert_eq!((numbered(0), numbered(12)), ("call-7".to_owned(), "12-7".to_owned()));
    }

    #[test]
    fn a_client_is_told_by_its_name_or_else_by_its_address() {
        let address = "127.0.0.1:80".parse().ok();
        assert_eq!(Client::new("shop", address).to_string(), "shop");
        assert_eq!(Client::new("", address).to_string(), "127.0.0.1:80");
        assert_eq!(Client::new("", None).to_string(), "");
        assert_eq!(Client::new(&"é".repeat(200), None).to_string(), "é".repeat(100));
    }
}
