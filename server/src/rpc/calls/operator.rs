//! Owns an operator's calls: what others have prepared, gates, modes.

use super::Calls;
use crate::auth::rights::Verb;
use crate::engine::Closing;
use crate::rpc::encode;
use zeolite_proto::wire::{translate, v2};
use zeolite_proto::{Fault, Mode, ModeEnd, ModeKind, PreparedDraft, Receipt};

impl Calls {
    pub(in crate::rpc) fn list_prepared(
        &self,
        done: impl FnOnce(Result<v2::ListPreparedReply, Fault>) + Send + 'static,
    ) {
        if let Err(fault) = self.may(Verb::OthersPrepared) {
            return done(Err(fault));
        }
        let told =
            |all: Vec<PreparedDraft>| v2::ListPreparedReply { prepared: all.into_iter().map(Into::into).collect() };
        self.engine().prepared(Box::new(move |result| done(result.map(told))));
    }

    pub(in crate::rpc) fn finish_prepared(
        &self,
        request: &v2::EndPreparedRequest,
        done: impl FnOnce(Result<v2::Receipt, Fault>) + Send + 'static,
    ) {
        let done = self.audited("finish prepared", done);
        match self.may(Verb::OthersPrepared).and_then(|()| translate::commit_key(&request.commit_key)) {
            Ok(key) => {
                let told = move |result: Result<Receipt, Fault>| done(result.map(|receipt| (&receipt).into()));
                self.engine().finish_anybodys(key, Box::new(told));
            }
            Err(fault) => done(Err(fault)),
        }
    }

    pub(in crate::rpc) fn abort_prepared(
        &self,
        request: &v2::EndPreparedRequest,
        done: impl FnOnce(Result<v2::Done, Fault>) + Send + 'static,
    ) {
        let done = self.audited("abort prepared", done);
        match self.may(Verb::OthersPrepared).and_then(|()| translate::commit_key(&request.commit_key)) {
            Ok(key) => self.engine().abort_anybodys(key, Box::new(move |result| done(result.map(encode::done)))),
            Err(fault) => done(Err(fault)),
        }
    }

    pub(in crate::rpc) fn set_mode(
        &self,
        request: v2::SetModeRequest,
        done: impl FnOnce(Result<v2::Mode, Fault>) + Send + 'static,
    ) {
        let told = move |result: Result<Mode, Fault>| done(result.map(|mode| (&mode).into()));
        let Ok(kind) = v2::ModeKind::try_from(request.kind) else {
            let unknown = Fault::invalid(format!("mode {} is not known; see the protocol", request.kind));
            return self.audited("set mode", told)(self.may(Verb::SetMode).and(Err(unknown)));
        };
        let end = match (request.until_unix_ms, request.for_ms) {
            (0, 0) => Ok(ModeEnd::Never),
            (until, 0) => Ok(ModeEnd::At(until)),
            (0, span) => Ok(ModeEnd::After(span)),
            _ => Err(Fault::invalid("the mode ends at a time or after a span; send one of the two")),
        };
        self.switch_mode(kind.into(), request.banner, end, told);
    }

    pub(in crate::rpc) fn switch_mode(
        &self,
        kind: ModeKind,
        banner: String,
        end: Result<ModeEnd, Fault>,
        done: impl FnOnce(Result<Mode, Fault>) + Send + 'static,
    ) {
        let done = self.audited("set mode", done);
        match self.may(Verb::SetMode).and(end) {
            Ok(end) => self.engine().set_mode(kind, banner, end, Box::new(done)),
            Err(fault) => done(Err(fault)),
        }
    }

    pub(in crate::rpc) fn close_gate(
        &self,
        request: v2::CloseGateRequest,
        done: impl FnOnce(Result<v2::CloseGateReply, Fault>) + Send + 'static,
    ) {
        let done = self.audited("close gate", done);
        if let Err(fault) = self.may(Verb::Gate) {
            return done(Err(fault));
        }
        let told = |closing| match closing {
            Closing::Closed(tid) => v2::CloseGateReply { closed: true, tid: tid.0, old_objects: 0 },
            Closing::Old(old_objects) => v2::CloseGateReply { closed: false, tid: 0, old_objects },
        };
        let v2::CloseGateRequest { class, min_version, job } = request;
        self.engine().close_gate(class, min_version, job, Box::new(move |result| done(result.map(told))));
    }

    pub(in crate::rpc) fn open_gate(
        &self,
        request: v2::OpenGateRequest,
        done: impl FnOnce(Result<v2::Done, Fault>) + Send + 'static,
    ) {
        let done = self.audited("open gate", done);
        if let Err(fault) = self.may(Verb::Gate) {
            return done(Err(fault));
        }
        self.engine().open_gate(request.class, Box::new(move |result| done(result.map(encode::done))));
    }

    pub(in crate::rpc) fn gates(&self) -> Result<v2::GatesReply, Fault> {
        let gates = self.allowed(Verb::Look)?.gates();
        Ok(v2::GatesReply { gates: gates.iter().map(v2::Gate::from).collect() })
    }
}
