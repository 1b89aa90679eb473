//! Owns the operator's door: status, pack, verify, modes, gates, prepared drafts, resolvers.
//!
//! Pack and verify work on threads of their own that give way to the traffic, and stream their progress. A reader that goes away stops them; one that is
//! slow misses progress, never the last message.

use super::calls::Calls;
use super::{Rpc, encode};
use crate::auth::rights::Verb;
use crate::engine::{Engine, PackReport, VerifyReport, WorkProgress, beside_the_traffic};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use zeolite_proto::wire::v2;
use zeolite_proto::wire::v2::admin_server::Admin;
use zeolite_proto::{Fault, FaultKind, PackOptions, Tid};

/// Progress messages that wait for their reader.
const PROGRESS_AHEAD: usize = 16;

type Progress<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The `Admin` service.
pub(super) struct Administration {
    rpc: Arc<Rpc>,
}

impl Administration {
    pub(super) fn new(rpc: Arc<Rpc>) -> Administration {
        Administration { rpc }
    }

    /// Waits for the engine's call back.
    async fn written<Q, T: Send + 'static>(
        &self,
        request: Request<Q>,
        begin: impl FnOnce(&Calls, Q, Box<dyn FnOnce(Result<T, Fault>) + Send>),
    ) -> Result<Response<T>, Status> {
        let calls = self.rpc.called(&request)?;
        let (told, answer) = oneshot::channel();
        // Who has gone away hears nothing; what was asked for is done all the same.
        begin(&calls, request.into_inner(), Box::new(move |result| drop(told.send(result))));
        let answer = answer.await.unwrap_or_else(|_| Err(encode::lost()));
        answer.map(Response::new).map_err(|fault| self.rpc.refusal(&fault))
    }

    /// Runs `work` beside the traffic; what it tells goes to the reader while there is room, its result always.
    fn stream<T: Send + 'static>(
        &self,
        calls: Calls,
        verb: &'static str,
        work: impl FnOnce(&Arc<Engine>, &mut dyn FnMut(T) -> bool) -> Result<T, Fault> + Send + 'static,
    ) -> Result<Response<Progress<T>>, Status> {
        let noted = calls.audited(verb, |_: Result<(), Fault>| {});
        if let Err(fault) = calls.may(Verb::Upkeep) {
            noted(Err(fault.clone()));
            return Err(self.rpc.refusal(&fault));
        }
        let (messages, stream) = mpsc::channel(PROGRESS_AHEAD);
        let rpc = self.rpc.clone();
        tokio::spawn(async move {
            let (told, engine) = (messages.clone(), calls.engine().clone());
            let (done, worked) = oneshot::channel();
            let begun = beside_the_traffic(move || {
                let result = work(&engine, &mut |progress| match told.try_send(Ok(progress)) {
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
                    Err(mpsc::error::TrySendError::Closed(_)) => false,
                });
                drop(done.send(result));
            });
            let last = match begun {
                Ok(()) => worked.await.unwrap_or_else(|_| Err(encode::lost())),
                Err(error) => {
                    let message = format!("the system has no thread left for it ({error}); try again later");
                    Err(Fault::new(FaultKind::Busy, message).after_ms(1000))
                }
            };
            noted(last.as_ref().map(|_| ()).map_err(Fault::clone));
            let last = last.map_err(|fault| rpc.refusal(&fault));
            // A reader that has gone away stopped the work; it wants no answer.
            drop(messages.send(last).await);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    /// The calls of a request, if its principal may do that.
    fn allowed<Q>(&self, request: &Request<Q>, verb: Verb) -> Result<Calls, Status> {
        let calls = self.rpc.called(request)?;
        calls.may(verb).map_err(|fault| self.rpc.refusal(&fault))?;
        Ok(calls)
    }
}

#[tonic::async_trait]
impl Admin for Administration {
    type PackStream = Progress<v2::PackProgress>;
    type VerifyStream = Progress<v2::VerifyProgress>;

    async fn status(&self, request: Request<v2::StatusRequest>) -> Result<Response<v2::StatusReply>, Status> {
        // Sizes and free bytes are asked of the disk.
        let calls = self.rpc.called_at_start(&request)?;
        calls.may(Verb::Look).map_err(|fault| self.rpc.refusal(&fault))?;
        let (rpc, database) = (self.rpc.clone(), calls.database().clone());
        let databases = self.rpc.databases_of(&request);
        let status = self.rpc.look(move || Ok(zeolite_proto::Status { databases, ..rpc.status(&database) })).await;
        status.map(|status| Response::new(status.into())).map_err(|fault| self.rpc.refusal(&fault))
    }

    async fn pack(&self, request: Request<v2::PackRequest>) -> Result<Response<Self::PackStream>, Status> {
        let calls = self.rpc.called(&request)?;
        let request = request.into_inner();
        self.stream(calls, "pack", move |engine, tell| {
            // A copy takes history away as its primary does, and nothing else.
            if !request.keep_garbage {
                engine.check_seat()?;
            }
            let to = (request.tid != 0).then_some(Tid(request.tid));
            let options = PackOptions::new().to(to).keep_garbage(request.keep_garbage).dry_run(request.dry_run);
            let report = engine.pack(options, &mut |progress| tell(pack_progress(progress)))?;
            Ok(pack_report(&report))
        })
    }

    async fn verify(&self, request: Request<v2::VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        let calls = self.rpc.called(&request)?;
        self.stream(calls, "verify", |engine, tell| {
            Ok(verify_report(engine.verify(&mut |progress| tell(verify_progress(progress)))?))
        })
    }

    async fn promote(&self, request: Request<v2::PromoteRequest>) -> Result<Response<v2::PromoteReply>, Status> {
        let calls = self.rpc.called_at_start(&request)?;
        let (noted, answer) = oneshot::channel();
        let done = calls.audited("promote", move |result| drop(noted.send(result)));
        if let Err(fault) = calls.may(Verb::Promote) {
            done(Err(fault.clone()));
            return Err(self.rpc.refusal(&fault));
        }
        let v2::PromoteRequest { anyway, hand_over } = request.into_inner();
        done(self.rpc.promote(&calls, anyway, hand_over).await);
        let promoted = answer.await.unwrap_or_else(|_| Err(encode::lost()));
        promoted.map(|it| Response::new(it.into())).map_err(|fault| self.rpc.refusal(&fault))
    }

    async fn set_mode(&self, request: Request<v2::SetModeRequest>) -> Result<Response<v2::Mode>, Status> {
        self.written(request, |calls, request, done| calls.set_mode(request, done)).await
    }

    async fn close_gate(&self, request: Request<v2::CloseGateRequest>) -> Result<Response<v2::CloseGateReply>, Status> {
        self.written(request, |calls, request, done| calls.close_gate(request, done)).await
    }

    async fn open_gate(&self, request: Request<v2::OpenGateRequest>) -> Result<Response<v2::Done>, Status> {
        self.written(request, |calls, request, done| calls.open_gate(request, done)).await
    }

    async fn gates(&self, request: Request<v2::GatesRequest>) -> Result<Response<v2::GatesReply>, Status> {
        let gates = self.rpc.called(&request)?.gates();
        gates.map(Response::new).map_err(|fault| self.rpc.refusal(&fault))
    }

    async fn list_prepared(
        &self,
        request: Request<v2::ListPreparedRequest>,
    ) -> Result<Response<v2::ListPreparedReply>, Status> {
        self.written(request, |calls, _, done| calls.list_prepared(done)).await
    }

    async fn finish_prepared(&self, request: Request<v2::EndPreparedRequest>) -> Result<Response<v2::Receipt>, Status> {
        self.written(request, |calls, request, done| calls.finish_prepared(&request, done)).await
    }

    async fn abort_prepared(&self, request: Request<v2::EndPreparedRequest>) -> Result<Response<v2::Done>, Status> {
        self.written(request, |calls, request, done| calls.abort_prepared(&request, done)).await
    }

    async fn list_sessions(
        &self,
        request: Request<v2::ListSessionsRequest>,
    ) -> Result<Response<v2::ListSessionsReply>, Status> {
        let calls = self.allowed(&request, Verb::Sessions)?;
        let sessions = self.rpc.list_sessions(calls.database()).into_iter().map(Into::into).collect();
        Ok(Response::new(v2::ListSessionsReply { sessions }))
    }

    async fn cut_session(&self, request: Request<v2::CutSessionRequest>) -> Result<Response<v2::Done>, Status> {
        let calls = self.rpc.called(&request)?;
        let id = request.into_inner().id;
        let cut = calls.may(Verb::Sessions).and_then(|()| self.rpc.cut_session(calls.database(), id));
        calls.audited("cut session", |_| ())(cut.clone());
        cut.map(|()| Response::new(v2::Done::default())).map_err(|fault| self.rpc.refusal(&fault))
    }

    async fn resolvers(&self, request: Request<v2::ResolversRequest>) -> Result<Response<v2::ResolversReply>, Status> {
        Ok(Response::new(encode::resolvers(self.allowed(&request, Verb::Look)?.engine().registry())))
    }
}

fn pack_progress(progress: WorkProgress) -> v2::PackProgress {
    v2::PackProgress {
        stage: progress.stage,
        done_units: progress.done_units,
        total_units: progress.total_units,
        ..Default::default()
    }
}

fn pack_report(report: &PackReport) -> v2::PackProgress {
    v2::PackProgress {
        stage: "done".into(),
        done: true,
        packed_to: report.packed_to.0,
        revisions_removed: report.revisions_removed,
        objects_removed: report.objects_removed,
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
        blobs_removed: report.blobs_removed,
        blob_bytes_removed: report.blob_bytes_removed,
        held_back: report.held_back.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn verify_progress(progress: WorkProgress) -> v2::VerifyProgress {
    v2::VerifyProgress {
        stage: progress.stage,
        done_units: progress.done_units,
        total_units: progress.total_units,
        ..Default::default()
    }
}

fn verify_report(report: VerifyReport) -> v2::VerifyProgress {
    v2::VerifyProgress {
        stage: "done".into(),
        done: true,
        transactions: report.transactions,
        revisions: report.revisions,
        objects: report.objects,
        blobs: report.blobs,
        problems: report.problems,
        problems_total: report.problems_total,
        dangling: report.dangling.iter().map(|(from, to)| v2::Reference { from: from.0, to: to.0 }).collect(),
        dangling_total: report.dangling_total,
        ..Default::default()
    }
}
