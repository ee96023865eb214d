//! `AuditService`.

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Handlers, convert::audit as convert, watch};
use crate::{
    domain::trail::{EventFilter, EventOrder},
    pb::v1::{self, audit_service_server::AuditService},
    service::{EventPage, EventPageToken, ServiceError},
};

/// Beyond this many bytes of events a page ends early: clients take messages of up to 4 MiB.
const MAX_PAGE: usize = 3 * 1024 * 1024;

/// As many events as one answer can carry, at least one, and the token for those behind them.
fn page(page: EventPage, filter: &EventFilter, order: EventOrder) -> v1::ListAuditEventsResponse {
    let EventPage { events, mut more } = page;
    let (mut carried, mut bytes, mut last) = (Vec::with_capacity(events.len()), 0, None);
    for read in events {
        let recorded = read.event.clone();
        let message = convert::event(read);
        bytes += message.encoded_len();
        if bytes > MAX_PAGE && last.is_some() {
            more = true;
            break;
        }
        carried.push(message);
        last = Some(recorded);
    }
    let token = last.filter(|_| more).map(|event| EventPageToken::behind(&event, filter, order));
    v1::ListAuditEventsResponse { events: carried, next_page_token: token.unwrap_or_default() }
}

#[tonic::async_trait]
impl AuditService for Handlers {
    async fn list_audit_events(
        &self,
        request: Request<v1::ListAuditEventsRequest>,
    ) -> Result<Response<v1::ListAuditEventsResponse>, Status> {
        let convert::EventPageRequest { filter, order, behind, limit } =
            convert::list_events(request.into_inner()).map_err(ServiceError::from)?;
        let listed = self.service.list_audit_events(filter.clone(), order, behind, limit).await?;
        Ok(Response::new(page(listed, &filter, order)))
    }

    type WatchAuditEventsStream = watch::AuditStream;

    async fn watch_audit_events(
        &self,
        request: Request<v1::WatchAuditEventsRequest>,
    ) -> Result<Response<Self::WatchAuditEventsStream>, Status> {
        watch::watch_audit_events(&self.service, request).await
    }

    async fn verify_audit_chain(
        &self,
        request: Request<v1::VerifyAuditChainRequest>,
    ) -> Result<Response<v1::VerifyAuditChainResponse>, Status> {
        let check = convert::chain_check(request.into_inner()).map_err(ServiceError::from)?;
        let report = self.service.verify_audit_chain(check).await?;
        Ok(Response::new(convert::chain_report(&report)))
    }
}
