//! TLS, certificates of clients, tokens: the client against a real server, with certificates and users of the test's own.

mod scene;
mod tls;
mod users;
