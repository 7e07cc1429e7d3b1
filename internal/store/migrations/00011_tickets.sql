-- +goose Up

-- What a browser opens a stream with, since its EventSource can send no token: one
-- use, a minute. Only a hash is kept, so that who reads the table opens nothing.
create table stream_tickets (
  hash bytea constraint stream_tickets_pk primary key,
  host_id text not null,
  until timestamptz not null, -- when the token that asked for it ends, and so the stream
  expires_at timestamptz not null
);
create index stream_tickets_by_host on stream_tickets (host_id, expires_at);
create index stream_tickets_expired on stream_tickets (expires_at);

grant select, insert, delete on stream_tickets to krib_api;
grant select, delete on stream_tickets to krib_jobs;

alter table stream_tickets enable row level security;
alter table stream_tickets force row level security;
create policy stream_tickets_jobs on stream_tickets to krib_jobs using (true);
-- +goose statementbegin
do $$ begin
  execute 'create policy stream_tickets_owner on stream_tickets to current_user using (true) with check (true)';
end $$;
-- +goose statementend
create policy stream_tickets_api on stream_tickets to krib_api
  using (host_id = krib_host()) with check (host_id = krib_host());

-- +goose Down
drop table stream_tickets;
