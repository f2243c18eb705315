//! From an authenticated request to its outcome: which kind, which verb, who may, what happens.

use std::sync::Arc;

use http::Method;
use yurt_api::{proto, resource::TypeMeta};

use super::{
    authorize::{Attributes, forbidden},
    certificate,
    delete::{DeleteOptions, Deleted, delete, success},
    discovery,
    error::Refusal,
    list,
    media::{JSON, PLAIN_PROTOBUF},
    patch,
    registry::Kind,
    request::{Query, Target},
    respond::{List, Reply},
    review,
    select::Selection,
    serve::Call,
    server::Server,
    subresource, upgrade, watch,
    write::Write,
};

/// Acts on a request; `id` is its number in the audit.
pub async fn act(server: &Arc<Server>, id: u64, call: Call) -> Result<Reply, Refusal> {
    match Target::parse(&call.path) {
        Some(target) => resource(server, id, call, target).await,
        None => path(server, &call),
    }
}

fn path(server: &Server, call: &Call) -> Result<Reply, Refusal> {
    let verb = call.method.as_str().to_lowercase();
    let asked = Attributes { verb: verb.clone(), path: call.path.clone(), ..Attributes::default() };
    if !server.read(|s| server.rules.allows(&call.principal, &asked, s)) {
        return Err(Refusal::forbidden_path(&call.principal.name, &verb, &call.path));
    }
    if call.method != Method::GET {
        return Err(Refusal::method_not_allowed());
    }
    discovery::answer(server, &call.path, &call.headers)
}

async fn resource(server: &Arc<Server>, id: u64, mut call: Call, target: Target) -> Result<Reply, Refusal> {
    let query = Query::parse(&call.query);
    let verb = verb(&call.method, &target, &query)?;
    if review::REVIEWS.contains(&(target.group.as_str(), target.plural.as_str())) {
        return self::review(server, call, &target, verb);
    }
    let kind = server.registry.read().unwrap().find(&target.group, &target.version, &target.plural);
    let selection = kind.as_ref().map(|k| Selection::of_request(k, &target, &query)).transpose();
    authorize(
        server,
        &call,
        &target,
        verb,
        kind.as_deref(),
        selection.as_ref().ok().and_then(Option::as_ref),
    )?;
    let kind = kind.ok_or_else(Refusal::no_such_path)?;
    let selection = selection?.ok_or_else(Refusal::no_such_path)?;
    if verb == "watch" {
        server.audit.amend(id, |e| e.watch = true);
        let tm = TypeMeta::new(&kind.api_version(), &kind.kind);
        // kinds that are not built in have no protobuf form; their metadata has
        let unwritable = |m: &super::media::Media| *m == PLAIN_PROTOBUF && !proto::knows(&tm);
        let media = call
            .accepted
            .iter()
            .find(|m| !unwritable(m))
            .copied()
            .ok_or_else(|| Refusal::not_acceptable(&[JSON]))?;
        return watch::watch(server, &kind, selection, &query, media).await.map(Reply::Raw);
    }
    if certificate::is_request(&kind) && target.subresource.as_deref() == Some(certificate::APPROVAL) {
        let key = Write { kind: &kind, target: &target, dry_run: false }.key();
        if verb != "get" {
            certificate::may_approve(server, &call.principal, &kind, &key)?;
        }
        return stored(server, call, &kind, &target, verb, selection, &query).await;
    }
    if let Some(subresource) = target.subresource.clone().filter(|s| s != "status") {
        return self::subresource(server, &mut call, &kind, &target, &subresource, &query);
    }
    stored(server, call, &kind, &target, verb, selection, &query).await
}

fn verb(method: &Method, target: &Target, query: &Query) -> Result<&'static str, Refusal> {
    Ok(match (method.as_str(), target.name.is_some()) {
        ("GET" | "HEAD", _) if target.legacy_watch || query.flag("watch") && target.name.is_none() => "watch",
        ("GET" | "HEAD", true) => "get",
        ("GET" | "HEAD", false) => "list",
        ("POST", _) => "create",
        ("PUT", true) => "update",
        ("PATCH", true) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => return Err(Refusal::method_not_allowed()),
    })
}

fn authorize(
    server: &Server,
    call: &Call,
    target: &Target,
    verb: &str,
    kind: Option<&Kind>,
    selection: Option<&Selection>,
) -> Result<(), Refusal> {
    let exact = |path| selection.and_then(|s| s.exact(path));
    let name = target.name.as_deref().or_else(|| exact("metadata.name"));
    let asked = Attributes::of_request(verb, target, name, exact("spec.nodeName"));
    if server.read(|s| server.rules.allows(&call.principal, &asked, s)) {
        return Ok(());
    }
    let unknown = Kind::custom(&target.group, &target.version, &target.plural, "");
    Err(forbidden(&call.principal, &asked, kind.unwrap_or(&unknown)))
}

fn review(server: &Server, call: Call, target: &Target, verb: &str) -> Result<Reply, Refusal> {
    authorize(server, &call, target, verb, None, None)?;
    if verb != "create" {
        return Err(Refusal::method_not_allowed());
    }
    review::review(server, &call.principal, &target.plural, call.body).map(|v| Reply::Value(201, v))
}

fn subresource(
    server: &Arc<Server>,
    call: &mut Call,
    kind: &Arc<Kind>,
    target: &Target,
    subresource: &str,
    query: &Query,
) -> Result<Reply, Refusal> {
    let key = Write { kind, target, dry_run: false }.key();
    match (target.plural.as_str(), subresource, call.method.as_str()) {
        ("serviceaccounts", "token", "POST") => subresource::token(server, kind, &key, call.body.take()),
        ("pods", "binding", "POST") => subresource::binding(server, kind, &key, &call.body),
        ("pods", "eviction", "POST") => subresource::eviction(server, kind, &key, &call.body),
        ("pods", "log", "GET") => subresource::log(server, kind, &key, query),
        ("pods", "exec" | "attach" | "portforward", "GET" | "POST") => {
            server
                .read(|s| s.get("pods", &key).cloned())
                .ok_or_else(|| Refusal::not_found(kind, &key.name))?;
            upgrade::echo(&call.headers, call.upgrade.lock().unwrap().take()).map(Reply::Raw)
        }
        _ => Err(Refusal::no_such_path()),
    }
}

async fn stored(
    server: &Arc<Server>,
    call: Call,
    kind: &Arc<Kind>,
    target: &Target,
    verb: &str,
    selection: Selection,
    query: &Query,
) -> Result<Reply, Refusal> {
    if target.subresource.is_some() && (!kind.status || matches!(verb, "create" | "delete")) {
        return Err(Refusal::no_such_path());
    }
    let write = Write { kind, target, dry_run: query.get("dryRun") == "All" };
    let object = |code| move |object| Reply::Object(code, kind.clone(), object);
    match verb {
        "get" => list::get(server, kind, &write.key(), query).await.map(object(200)),
        "list" => list::list(server, kind, &selection, query).await.map(Reply::List),
        "create" if kind.namespaced && target.namespace.is_none() => Err(Refusal::method_not_allowed()),
        "create" => {
            let mut body = call.body;
            if certificate::is_request(kind) {
                certificate::sign(&mut body, &call.principal);
            }
            server.write(|s| write.create(s, body)).map(object(201))
        }
        "update" => server.write(|s| write.update(s, call.body)).map(|(code, o)| object(code)(o)),
        "patch" => {
            let content_type = call.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
            server
                .write(|s| patch::patch(s, &write, content_type.unwrap_or_default(), &call.body))
                .map(object(200))
        }
        "delete" => {
            let options = DeleteOptions::of_request(&call.body, query)?;
            let deleted = server.write(|s| delete(s, kind, &write.key(), &options))?;
            Ok(match deleted {
                Deleted::Gone(gone) if kind.plural != "pods" => Reply::Value(200, success(kind, &gone)),
                Deleted::Gone(last) | Deleted::Marked(last) => Reply::Object(200, kind.clone(), last),
            })
        }
        _ => delete_collection(server, &call, kind, &selection, query).await,
    }
}

async fn delete_collection(
    server: &Arc<Server>,
    call: &Call,
    kind: &Arc<Kind>,
    selection: &Selection,
    query: &Query,
) -> Result<Reply, Refusal> {
    let options = DeleteOptions::of_request(&call.body, query)?;
    let found: List = list::list(server, kind, selection, query).await?;
    server.write(|storage| {
        for object in &found.objects {
            delete(storage, kind, &object.key, &options).ok();
        }
    });
    Ok(Reply::List(found))
}
