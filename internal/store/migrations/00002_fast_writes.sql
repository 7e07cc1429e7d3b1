-- +goose Up

-- A row of the outbox lives for milliseconds. To compress its value and to move it
-- into another table, as is the default above 2 kB, costs more than all the rest;
-- so it stays in its row up to the size of a page.
alter table outbox set (toast_tuple_target = 8160);
alter table outbox alter column value set storage external;
-- Nobody looks into the headers: they are stored as they are.
alter table outbox alter column headers type json using headers::json;
alter table outbox_stuck alter column headers type json using headers::json;

-- What a booking needs of another one's settings. It is a view, since a function
-- in SQL is parsed and planned at each call.
create view krib_host_switches as select host_id, webhook_notifications from host_settings;
grant select on krib_host_switches to krib_api, krib_jobs;
drop function krib_host_webhooks;

-- +goose Down
create function krib_host_webhooks(host text) returns boolean
  language sql stable security definer set search_path = pg_catalog, public, pg_temp as $$
  select coalesce((select s.webhook_notifications from public.host_settings s where s.host_id = host), true)
$$;
revoke execute on function krib_host_webhooks from public;
grant execute on function krib_host_webhooks to krib_api, krib_jobs;
drop view krib_host_switches;
alter table outbox_stuck alter column headers type jsonb using headers::jsonb;
alter table outbox alter column headers type jsonb using headers::jsonb;
alter table outbox alter column value set storage extended;
alter table outbox reset (toast_tuple_target);
