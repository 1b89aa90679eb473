//! Owns the logins: who has shown a token to the page, and what his browser shows instead of it since.
//!
//! ```text
//!   token ── POST /api/login ──> cookie: 256 new random bits, HttpOnly, SameSite=Strict; kept: their SHA-256, whose they are, until when
//! ```
//! A login ends after `metrics.login_s`, when somebody logs out, with the server, and at once when the token behind it counts no more: whose it
//! is is asked again with each request and each event. Scripts cannot read the cookie, and other sites' requests do not carry it.
//!
//! Browsers keep one jar for all ports of a host. So the cookie has the port in its name, as the browser knows it (`Host`): two servers on
//! one host do not log each other out.
//!
//! A user has so many: his oldest makes room for one more. When there are too many of all users, the one with most of them gives his oldest,
//! so whoever logs in again and again pushes nobody out but himself.

use crate::auth::authority::Who;
use crate::auth::token::{Sha256, Token};
use hyper::HeaderMap;
use hyper::header::{COOKIE, HOST};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use zeolite_proto::{Fault, FaultKind};

/// Only holders of tokens make one.
const LOGINS_MAX: usize = 256;
/// Those of one user.
const LOGINS_OF_A_USER: usize = 16;

const NAME: &str = "zeolite_page";

pub(super) struct Logins {
    lasts_s: u64,
    /// Of the listener, for who names none.
    port: u16,
    /// By the short ids of what browsers show.
    by_id: Mutex<HashMap<String, Login>>,
}

struct Login {
    sum: Sha256,
    who: Who,
    /// By the steady clock.
    until: Duration,
}

impl Logins {
    pub(super) fn new(lasts_s: u64, port: u16) -> Logins {
        Logins { lasts_s, port, by_id: Mutex::default() }
    }

    /// A new one; gives the cookie.
    pub(super) fn begin(
        &self,
        who: Who,
        headers: &HeaderMap,
        now: Duration,
        is_encrypted: bool,
    ) -> Result<String, Fault> {
        let shown = Token::new().map_err(|error| {
            Fault::new(FaultKind::Internal, format!("the operating system has no randomness: {error}"))
        })?;
        let until = now + Duration::from_secs(self.lasts_s);
        let mut by_id = self.by_id.lock();
        by_id.retain(|_, login| now < login.until);
        if of_user(&by_id, who.user()) >= LOGINS_OF_A_USER {
            remove_oldest(&mut by_id, who.user());
        } else if by_id.len() >= LOGINS_MAX {
            let most = by_id.values().max_by_key(|login| of_user(&by_id, login.who.user()));
            let most = most.map(|login| login.who.clone());
            remove_oldest(&mut by_id, most.as_ref().and_then(Who::user));
        }
        by_id.insert(shown.id().to_owned(), Login { sum: shown.sha256(), who, until });
        Ok(cookie(&self.name(headers), shown.secret(), self.lasts_s, is_encrypted))
    }

    /// Whose the login is that a request shows.
    pub(super) fn find(&self, headers: &HeaderMap, now: Duration) -> Option<Who> {
        let shown = self.shown(headers)?;
        let by_id = self.by_id.lock();
        let login = by_id.get(shown.id()).filter(|login| login.sum == shown.sha256() && now < login.until)?;
        Some(login.who.clone())
    }

    /// Ends it; gives the cookie that takes the other away.
    pub(super) fn end(&self, headers: &HeaderMap, is_encrypted: bool) -> String {
        if let Some(shown) = self.shown(headers) {
            let mut by_id = self.by_id.lock();
            if by_id.get(shown.id()).is_some_and(|login| login.sum == shown.sha256()) {
                by_id.remove(shown.id());
            }
        }
        cookie(&self.name(headers), "", 0, is_encrypted)
    }

    fn name(&self, headers: &HeaderMap) -> String {
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let port = host.and_then(|host| host.rsplit_once(':')?.1.parse::<u16>().ok());
        format!("{NAME}_{}", port.unwrap_or(self.port))
    }

    fn shown(&self, headers: &HeaderMap) -> Option<Token> {
        let wanted = self.name(headers);
        let cookies = headers.get_all(COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let mut named =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
        Token::of(named.find(|(name, _)| *name == wanted)?.1)
    }
}

fn of_user(by_id: &HashMap<String, Login>, user: Option<&str>) -> usize {
    by_id.values().filter(|login| login.who.user() == user).count()
}

fn remove_oldest(by_id: &mut HashMap<String, Login>, user: Option<&str>) {
    let his = by_id.iter().filter(|(_, login)| login.who.user() == user);
    let oldest = his.min_by_key(|(_, login)| login.until).map(|(id, _)| id.clone());
    oldest.map(|id| by_id.remove(&id));
}

fn cookie(name: &str, value: &str, lasts_s: u64, is_encrypted: bool) -> String {
    let secure = if is_encrypted { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Strict{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn who(name: &str) -> Who {
        Who::Token { user: name.into(), id: "1".into() }
    }

    fn showing(cookie: &str) -> HeaderMap {
        let pair = cookie.split(';').next().expect("a pair");
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&format!("a=b; {pair}")).expect("ASCII"))])
    }

    #[test]
    fn a_login_lasts_its_time_ends_when_it_is_ended_and_is_no_others() {
        let (logins, at) = (Logins::new(10, 9464), Duration::from_secs);
        let cookie = logins.begin(who("amy"), &HeaderMap::new(), at(0), true).expect("randomness");
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Max-Age=10"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert_eq!(logins.find(&showing(&cookie), at(9)), Some(who("amy")));
        assert_eq!(logins.find(&showing(&cookie), at(10)), None, "its time is over");
        let at_end = cookie.find(';').expect("a pair");
        let last = if cookie.as_bytes()[at_end - 1] == b'0' { "1" } else { "0" };
        let forged = format!("{}{last}{}", &cookie[..at_end - 1], &cookie[at_end..]);
        assert_eq!(logins.find(&showing(&forged), at(1)), None);
        logins.end(&showing(&forged), true);
        assert!(logins.find(&showing(&cookie), at(1)).is_some(), "who forges it ends nothing");
        logins.end(&showing(&cookie), true);
        assert_eq!(logins.find(&showing(&cookie), at(1)), None);
    }

    /// A browser sends the cookies of a host to all of its ports, and keeps one of each name.
    #[test]
    fn two_servers_of_one_host_do_not_log_each_other_out() {
        let servers = [Logins::new(10, 9464), Logins::new(10, 9465)];
        let hosted = |host: &'static str| HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        // Their own ports; the ports that a container's are led to; names without a port.
        for hosts in [["localhost:9464", "localhost:9465"], ["box:8001", "box:8002"], ["localhost", "localhost"]] {
            let mut jar = HashMap::new();
            for (server, host) in servers.iter().zip(hosts) {
                let cookie = server.begin(who(host), &hosted(host), Duration::ZERO, false).expect("randomness");
                let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair");
                jar.insert(name.to_owned(), value.to_owned());
            }
            let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            for (server, host) in servers.iter().zip(hosts) {
                let mut headers = hosted(host);
                headers.insert(COOKIE, HeaderValue::from_str(&cookies.join("; ")).expect("ASCII"));
                assert_eq!(server.find(&headers, Duration::ZERO), Some(who(host)), "{host}");
            }
        }
    }

    #[test]
    fn his_own_oldest_makes_room_and_of_all_that_of_the_one_with_most() {
        let logins = Logins::new(1000, 9464);
        let begin = |name: &str, second| {
            let begun = logins.begin(who(name), &HeaderMap::new(), Duration::from_secs(second), false);
            begun.expect("randomness")
        };
        let lives = |cookie: &String| logins.find(&showing(cookie), Duration::from_secs(500)).is_some();
        let admin = begin("admin", 0);
        let cookies: Vec<String> = (1..=300).map(|second| begin("amy", second)).collect();
        assert!(cookies.iter().rev().take(LOGINS_OF_A_USER).all(lives), "his newest");
        assert_eq!(cookies.iter().filter(|cookie| lives(cookie)).count(), LOGINS_OF_A_USER);
        for second in 0..400 {
            begin(&format!("user {}", second % 40), 301);
        }
        assert!(lives(&admin), "he has one alone");
        assert_eq!(logins.by_id.lock().len(), LOGINS_MAX);
    }
}
