-- +goose Up

-- Sets updated_at for whoever changes a row without saying when. A statement that
-- says so keeps its own moment, which stands in the change's event too.
-- +goose statementbegin
create function update_updated_at_column() returns trigger language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end $$;
-- +goose statementend
revoke execute on function update_updated_at_column from public;

-- +goose statementbegin
do $$
declare t text;
begin
  foreach t in array array['properties', 'bookings', 'webhook_subscriptions', 'host_settings', 'sink_offsets'] loop
    execute format('create trigger update_updated_at before update on %I for each row
      when (new.updated_at is not distinct from old.updated_at) execute function update_updated_at_column()', t);
  end loop;
end $$;
-- +goose statementend
-- Where a notification's record stands in the log is no change of the notification.
create trigger update_updated_at before update on host_notifications for each row
  when (new.updated_at is not distinct from old.updated_at and new.log_offset is not distinct from old.log_offset)
  execute function update_updated_at_column();

-- How many notifications a host has not read; at most p_limit are counted. It runs with its caller's rights: a
-- host that asks about another one counts nothing. It is not written in SQL, since
-- such a function is parsed and planned at each call; this one keeps its plan.
-- +goose statementbegin
create function get_unread_notification_count(p_host_id text, p_limit integer default null) returns integer language plpgsql stable as $$
begin
  return (select count(*) from (select from host_notifications n
    where n.host_id = p_host_id and n.read_at is null and n.deleted_at is null and (n.expires_at is null or n.expires_at > now())
    limit p_limit) x);
end $$;
-- +goose statementend

-- Takes notifications that have run out from their hosts' inboxes, the oldest
-- first, and says how many. They were hidden before; this lets their rows leave
-- the indexes of what is live. It waits for nobody.
-- +goose statementbegin
create function cleanup_expired_notifications(p_limit integer default 1000) returns integer language plpgsql as $$
declare n integer;
begin
  update host_notifications set deleted_at = now(), updated_at = now()
  where id in (
    select id from host_notifications where deleted_at is null and expires_at <= now()
    order by expires_at limit p_limit for no key update skip locked);
  get diagnostics n = row_count;
  return n;
end $$;
-- +goose statementend

-- A change that was made here and is not on the topic yet. Only the function below
-- leaves one, for a record is made by the program; the next clean-up publishes it.
alter table webhook_subscriptions add column unpublished boolean not null default false;

-- Switches subscriptions off that have failed for too long, or too often, though
-- no attempt arrives any more that would say so, and says how many. It passes over
-- those that somebody is changing.
-- +goose statementbegin
create function disable_failed_webhook_subscriptions(p_after interval default '5 days', p_limit integer default 100) returns integer
  language plpgsql as $$
declare n integer;
begin
  with failed as (
    select s.id, h.failed_attempts >= s.max_failed_attempts as often
    from webhook_subscriptions s join webhook_health h on h.subscription_id = s.id
    where s.is_active and (h.failed_attempts >= s.max_failed_attempts
      or h.failures_since_success >= s.max_failed_attempts and h.first_failure_at <= now() - p_after)
    order by s.id limit p_limit for no key update of s skip locked)
  update webhook_subscriptions s set is_active = false, disabled_reason = case when f.often then 'failures' else 'failing_too_long' end,
    version = s.version + 1, updated_at = now(), unpublished = true
  from failed f where s.id = f.id;
  get diagnostics n = row_count;
  return n;
end $$;
-- +goose statementend

-- Drops the months of attempts that ended before a moment, and what the partition
-- of odd clocks has from before it; says how many months went. Only the tables'
-- owner can drop them, whom the jobs ask here.
-- +goose statementbegin
create function krib_drop_attempt_partitions(before timestamptz) returns integer
  language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare name text; n integer := 0;
begin
  perform pg_advisory_xact_lock(7011);
  for name in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'public.webhook_attempts'::regclass and c.relname ~ '^webhook_attempts_[0-9]{6}$'
      and (to_date(right(c.relname, 6), 'YYYYMM')::timestamp + interval '1 month') at time zone 'utc' <= before
    order by c.relname
  loop
    execute format('drop table public.%I', name);
    n := n + 1;
  end loop;
  delete from public.webhook_attempts_default where delivery_created_at < before;
  return n;
end $$;
-- +goose statementend

revoke execute on function get_unread_notification_count, cleanup_expired_notifications, disable_failed_webhook_subscriptions,
  krib_drop_attempt_partitions from public;
grant execute on function get_unread_notification_count to krib_api;
grant execute on function cleanup_expired_notifications, disable_failed_webhook_subscriptions, krib_drop_attempt_partitions to krib_jobs;

-- A host lists its homes.
create index properties_by_host on properties (host_id, created_at desc, id desc);
-- What has been out of an inbox for long enough goes by the age of its record.
drop index host_notifications_deleted;
create index host_notifications_deleted on host_notifications (created_at) where deleted_at is not null;
-- Nobody lists bookings by agent, or attempts by subscription.
drop index bookings_by_agent;
drop index webhook_attempts_by_subscription;

-- +goose Down
create index webhook_attempts_by_subscription on webhook_attempts (subscription_id, started_at desc);
create index bookings_by_agent on bookings (agent_id, created_at desc, id desc);
drop index host_notifications_deleted;
create index host_notifications_deleted on host_notifications (deleted_at) where deleted_at is not null;
drop index properties_by_host;
drop function krib_drop_attempt_partitions, disable_failed_webhook_subscriptions, cleanup_expired_notifications, get_unread_notification_count;
alter table webhook_subscriptions drop column unpublished;
drop trigger update_updated_at on host_notifications;
drop trigger update_updated_at on sink_offsets;
drop trigger update_updated_at on host_settings;
drop trigger update_updated_at on webhook_subscriptions;
drop trigger update_updated_at on bookings;
drop trigger update_updated_at on properties;
drop function update_updated_at_column;
