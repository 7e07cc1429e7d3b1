-- +goose Up

-- Events of the log that are sent to one subscription once more: a job, whose
-- runner keeps its progress here. Whoever holds the lease works on it; what has no
-- owner, or whose lease has ended, is anybody's from lease_until on.
create table webhook_replays (
  id text constraint webhook_replays_pk primary key,
  agent_id text not null, -- the subscription's, for row level security
  subscription_id text not null constraint webhook_replays_subscription_fk references webhook_subscriptions on delete cascade,
  run bigint not null constraint webhook_replays_run_positive check (run > 0),
  trigger text not null constraint webhook_replays_trigger check (trigger in ('replay', 'manual')),
  dry_run boolean not null,
  since timestamptz,
  until timestamptz,
  booking_id text not null,
  event_types text[] not null,
  only_failed boolean not null,
  delivery_id text not null,
  state text not null default 'waiting'
    constraint webhook_replays_state check (state in ('waiting', 'running', 'done', 'cancelled', 'failed')),
  reason text not null default '',
  progress jsonb not null default '{}',
  owner text not null default '',
  lease_until timestamptz not null,
  created_at timestamptz not null,
  started_at timestamptz,
  finished_at timestamptz,
  saved_at timestamptz not null,
  constraint webhook_replays_run_unique unique (subscription_id, run),
  constraint webhook_replays_finished check ((state in ('done', 'cancelled', 'failed')) = (finished_at is not null))
);
create index webhook_replays_newest on webhook_replays (subscription_id, created_at desc, id desc);
create index webhook_replays_unfinished on webhook_replays (lease_until) where state in ('waiting', 'running');
create index webhook_replays_finished_at on webhook_replays (finished_at) where finished_at is not null;
-- Its progress changes with every batch and no index holds it.
alter table webhook_replays set (fillfactor = 50);

-- An agent asks for a replay and ends it; what it has done is the runner's to say.
grant select, insert (id, agent_id, subscription_id, run, trigger, dry_run, since, until, booking_id, event_types, only_failed, delivery_id,
  lease_until, created_at, saved_at), update (state, finished_at) on webhook_replays to krib_api;
grant select, update, delete on webhook_replays to krib_jobs;

alter table webhook_replays enable row level security;
alter table webhook_replays force row level security;
create policy webhook_replays_owner on webhook_replays to current_user using (true) with check (true);
create policy webhook_replays_jobs on webhook_replays to krib_jobs using (true) with check (true);
create policy webhook_replays_api on webhook_replays to krib_api
  using (krib_platform() or agent_id = krib_agent()) with check (krib_platform() or agent_id = krib_agent());

-- +goose Down
drop table webhook_replays;
