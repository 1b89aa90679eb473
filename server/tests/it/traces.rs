//! Traces, sent to a real collector's service on loopback: the stages of a traced commit, what nobody traces, and a collector that is gone.

mod tls;

use crate::rpc::support::{Raw, TestServer, cell, draft, fault, hello, put, start_with, within};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use zeolite_proto::TraceContext;
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::client_frame::Request as Asked;
use zeolite_proto::wire::v2::server_frame::Reply;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

/// Hands over whatever comes.
struct Collector(mpsc::UnboundedSender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let name = resource.resource.expect("it says who it is").attributes;
            assert!(name.iter().any(|pair| pair.key == "service.name"), "{name:?}");
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                drop(self.0.send(span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector, and what it gets.
async fn collector() -> (String, mpsc::UnboundedReceiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (to, spans) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(to));
    let serving = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    (format!("http://{address}"), spans)
}

async fn traced(one_in: u64) -> (TestServer, mpsc::UnboundedReceiver<Span>) {
    let (endpoint, spans) = collector().await;
    let server = start_with(|settings| {
        settings.traces.endpoint = endpoint;
        settings.traces.one_in = one_in;
    })
    .await;
    (server, spans)
}

fn context(sampled: bool) -> String {
    TraceContext { trace: TRACE, span: SPAN, sampled }.to_string()
}

/// A request under this name, traced by that.
async fn ask(raw: &mut Raw, request_id: &str, traceparent: &str, request: Asked) -> Reply {
    let id = raw.next_id;
    raw.next_id += 1;
    let (traceparent, request_id) = (traceparent.to_owned(), request_id.to_owned());
    let frame = v2::ClientFrame { id, request: Some(request), traceparent, request_id };
    within(raw.to.send(frame)).await.expect("the session is open");
    raw.answer(id).await
}

fn commit(number: u64) -> Asked {
    Asked::Commit(draft(0, vec![put(cell(number), 0, "x")]))
}

/// What comes until there are so many.
async fn next(spans: &mut mpsc::UnboundedReceiver<Span>, count: usize) -> Vec<Span> {
    let mut all = Vec::new();
    while all.len() < count {
        all.push(within(spans.recv()).await.expect("the collector lives"));
    }
    all
}

fn text(span: &Span, key: &str) -> Option<String> {
    let pair = span.attributes.iter().find(|pair| pair.key == key)?;
    match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traced_commit_is_told_with_its_stages_and_its_tid() {
    let (server, mut spans) = traced(0).await;
    let mut raw = server.session().await;
    let Reply::Receipt(receipt) = ask(&mut raw, "checkout/7", &context(true), commit(1)).await else {
        panic!("it is committed")
    };
    let all = next(&mut spans, 6).await;
    let named = |name: &str| all.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name} in {all:?}"));
    let whole = named("commit");
    assert!(all.iter().all(|span| span.trace_id == TRACE.to_be_bytes()), "{all:?}");
    assert_eq!(whole.parent_span_id, SPAN.to_be_bytes());
    assert_eq!(text(whole, "zeolite.request").as_deref(), Some("checkout/7"));
    let mut before = whole.start_time_unix_nano;
    for name in ["queue", "hop", "write", "fsync", "publish"] {
        let stage = named(name);
        assert_eq!(stage.parent_span_id, whole.span_id, "{name}");
        assert!(stage.start_time_unix_nano >= before.saturating_sub(1000), "{name} comes in its order: {all:?}");
        assert!(stage.end_time_unix_nano >= stage.start_time_unix_nano, "{name}");
        before = stage.start_time_unix_nano;
    }
    assert_eq!(text(named("publish"), "zeolite.tid"), Some(zeolite_proto::Tid(receipt.tid).to_string()));
    server.server.stop().await.expect("stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_traces_is_not_told_and_a_refusal_is_told_with_its_fault_and_its_name() {
    let (server, mut spans) = traced(0).await;
    let mut raw = server.session().await;
    for untraced in ["", "garbage", &context(false), "00-0-0-01"] {
        let refused = ask(&mut raw, "", untraced, Asked::Hello(hello())).await;
        let session = fault(refused).request;
        let numbered =
            session.split_once('-').is_some_and(|(session, id)| session.parse::<u64>().is_ok() && !id.is_empty());
        assert!(numbered, "by its session and its number: {session:?}");
    }
    let named = fault(ask(&mut raw, "second-hello", &context(true), Asked::Hello(hello())).await);
    assert_eq!(named.request, "second-hello");
    let odd = fault(ask(&mut raw, "no good\nname", &context(true), Asked::Hello(hello())).await);
    assert!(!odd.request.contains('\n') && odd.request.contains('-'), "{odd:?}");
    fault(ask(&mut raw, "last", &context(true), Asked::Hello(hello())).await);
    // They are sent in their order: what else was traced has come before the last.
    let mut told = Vec::new();
    while told.last().and_then(Option::as_deref) != Some("last") {
        let span = next(&mut spans, 1).await.swap_remove(0);
        assert!(span.name == "hello" && text(&span, "zeolite.fault").is_some(), "{span:?}");
        told.push(text(&span, "zeolite.request"));
    }
    assert_eq!(told, ["second-hello", &odd.request, "last"].map(|name| Some(name.to_owned())));
}

/// A draft in parts is one request, and what is refused before it is begun is one as well.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_no_requests_are_not_told_and_every_refusal_is() {
    let (endpoint, mut spans) = collector().await;
    let server = start_with(|settings| {
        settings.traces.endpoint = endpoint;
        settings.metrics.listen = "127.0.0.1:0".into();
    })
    .await;
    let mut raw = server.session().await;
    let whole = draft(0, vec![put(cell(1), 0, "x")]);
    let encoded = prost::bytes::Bytes::from(prost::Message::encode_to_vec(&whole));
    let half = encoded.len() / 2;
    let part = |data: prost::bytes::Bytes, last| {
        Asked::Part(v2::DraftPart { commit_key: whole.commit_key.clone(), data, last, purpose: None })
    };
    let send =
        |id, request| v2::ClientFrame { id, request: Some(request), traceparent: context(true), ..Default::default() };
    for frame in [send(90, part(encoded.slice(..half), false)), send(90, part(encoded.slice(half..), true))] {
        within(raw.to.send(frame)).await.expect("the session is open");
    }
    assert!(matches!(raw.answer(90).await, Reply::Receipt(_)));
    // Refused where it comes, before it is a request: a part without a key, and no request at all.
    let keyless = Asked::Part(v2::DraftPart { commit_key: vec![7; 3].into(), ..Default::default() });
    within(raw.to.send(send(91, keyless))).await.expect("the session is open");
    fault(raw.answer(91).await);
    let nothing = v2::ClientFrame { id: 92, traceparent: context(true), ..Default::default() };
    within(raw.to.send(nothing)).await.expect("the session is open");
    fault(raw.answer(92).await);
    fault(ask(&mut raw, "last", &context(true), Asked::Hello(hello())).await);
    let all = next(&mut spans, 8).await;
    let named = |name: &str| all.iter().filter(|span| span.name == name).count();
    assert_eq!((named("commit in parts"), named("publish"), named("hello")), (2, 1, 1), "{all:?}");
    let refused = all.iter().filter(|span| text(span, "zeolite.fault").is_some()).count();
    assert_eq!(refused, 2, "the part and the hello: {all:?}");
    loop {
        let told = crate::metrics::scrape::scrape(&server.server).await;
        if told.value("zeolite_spans_waiting") == 0.0 {
            assert_eq!(told.value("zeolite_spans_sent_total"), 8.0);
            assert_eq!(told.value("zeolite_spans_dropped_total"), 0.0);
            break;
        }
    }
}

/// One in two is traced from here on: the draft is the first, whatever it came in.
#[tokio::test(flavor = "multi_thread")]
async fn a_draft_in_parts_counts_once_where_one_in_so_many_is_traced() {
    let (server, mut spans) = traced(2).await;
    let mut raw = server.session().await;
    let whole = draft(0, vec![put(cell(1), 0, "x")]);
    let encoded = prost::bytes::Bytes::from(prost::Message::encode_to_vec(&whole));
    let half = encoded.len() / 2;
    for (data, last) in [(encoded.slice(..half), false), (encoded.slice(half..), true)] {
        let part = v2::DraftPart { commit_key: whole.commit_key.clone(), data, last, purpose: None };
        let frame = v2::ClientFrame { id: 90, request: Some(Asked::Part(part)), ..Default::default() };
        within(raw.to.send(frame)).await.expect("the session is open");
    }
    assert!(matches!(raw.answer(90).await, Reply::Receipt(_)));
    let all = next(&mut spans, 6).await;
    assert!(all.iter().any(|span| span.name == "commit in parts"), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_session_is_traced_too_and_one_in_so_many_from_here_on() {
    let (server, mut spans) = traced(1).await;
    let mut unary = server.unary().await;
    let mut request = Request::new(draft(0, vec![put(cell(1), 0, "x")]));
    request.metadata_mut().insert("traceparent", context(true).parse().expect("ASCII"));
    within(unary.writer.commit(request)).await.expect("commits");
    let stages = next(&mut spans, 5).await;
    assert!(stages.iter().all(|span| span.parent_span_id == SPAN.to_be_bytes()), "{stages:?}");
    let mut raw = server.session().await;
    assert!(matches!(ask(&mut raw, "", "", commit(2)).await, Reply::Receipt(_)));
    let own = next(&mut spans, 6).await;
    let whole = own.iter().find(|span| span.name == "commit").expect("it is traced");
    assert!(whole.parent_span_id.iter().all(|byte| *byte == 0) && whole.trace_id != TRACE.to_be_bytes(), "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_costs_spans_and_nothing_else() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = gone.local_addr().expect("an address");
    drop(gone);
    let server = start_with(|settings| {
        settings.traces.endpoint = format!("http://{address}");
        settings.traces.queue_max = 4;
        settings.metrics.listen = "127.0.0.1:0".into();
    })
    .await;
    let mut raw = server.session().await;
    for number in 0..50 {
        assert!(matches!(ask(&mut raw, "", &context(true), commit(number)).await, Reply::Receipt(_)), "{number}");
    }
    let told = crate::metrics::scrape::scrape(&server.server).await;
    assert!(told.value("zeolite_spans_dropped_total") >= 200.0, "what did not fit");
    assert_eq!(told.value("zeolite_spans_sent_total"), 0.0, "nobody has got one");
    server.server.stop().await.expect("and the server stops as ever");
}
