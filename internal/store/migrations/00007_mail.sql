-- +goose Up

-- Where a host gets mail, and when not. Quiet hours are minutes of the day on the
-- clock of its time zone.
alter table host_settings
  add column email text not null default '',
  add column email_notifications boolean not null default true,
  add column time_zone text not null default 'Asia/Dubai',
  add column quiet_hours boolean not null default false,
  add column quiet_start smallint not null default 1320 constraint host_settings_quiet_start check (quiet_start between 0 and 1439),
  add column quiet_end smallint not null default 420 constraint host_settings_quiet_end check (quiet_end between 0 and 1439),
  add column quiet_allows_urgent boolean not null default true,
  add constraint host_settings_quiet_differs check (quiet_start <> quiet_end);

-- All that sending mail needs of hosts' settings: those who want some.
create view krib_mailboxes as
  select host_id, email, time_zone, quiet_hours, quiet_start, quiet_end, quiet_allows_urgent
  from host_settings where email_notifications and email <> '';

-- What somebody is told by mail. The id is what it tells of, a notification or a
-- guest's side of an event, so that nothing is told twice, however often its record
-- is read. Rows that leave in one mail have one mail_id, the id of its first; it is
-- given once, since a mail that is tried again must be the same one.
create table emails (
  id text constraint emails_pk primary key,
  host_id text not null, -- empty on a guest's
  recipient text not null, -- a guest's address; a host's is looked up when its mail leaves
  content jsonb not null,
  urgent boolean not null,
  happened_at timestamptz not null,
  expires_at timestamptz,
  mail_id text,
  state text not null default 'waiting' constraint emails_state check (state in ('waiting', 'sent', 'refused', 'dropped')),
  reason text not null default '', -- of the last failure, or why there was no mail
  attempts int not null default 0,
  due_at timestamptz not null, -- while it is being sent, when somebody else may try
  queued_at timestamptz not null default now(),
  ended_at timestamptz,
  constraint emails_of_somebody check ((host_id = '') <> (recipient = ''))
);
create index emails_due on emails (due_at, id) where state = 'waiting';
create index emails_of_host on emails (host_id, due_at) where state = 'waiting' and mail_id is null;
create index emails_of_mail on emails (mail_id) where state = 'waiting' and mail_id is not null;
create index emails_queued on emails (queued_at);

-- When the next mail may leave. Whoever holds the row's lock chooses the mail, so
-- that two replicas neither choose one twice nor tear one apart, and the rate is
-- the cluster's.
create table email_turns (
  one boolean constraint email_turns_pk primary key default true constraint email_turns_one check (one),
  next_at timestamptz not null default now()
);
insert into email_turns default values;

grant select on krib_mailboxes to krib_sink;
grant select, insert, update (mail_id, state, reason, attempts, due_at, ended_at) on emails to krib_sink;
grant select, update (next_at) on email_turns to krib_sink;
grant select, delete on emails to krib_jobs;

-- +goose statementbegin
do $$
declare t text;
begin
  foreach t in array array['emails', 'email_turns'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy %I on %I to krib_sink using (true) with check (true)', t || '_sink', t);
    execute format('create policy %I on %I to current_user using (true) with check (true)', t || '_owner', t);
  end loop;
end $$;
-- +goose statementend
create policy emails_jobs on emails to krib_jobs using (true) with check (true);

-- +goose Down
drop table emails, email_turns;
drop view krib_mailboxes;
alter table host_settings
  drop column email, drop column email_notifications, drop column time_zone, drop column quiet_hours, drop column quiet_start,
  drop column quiet_end, drop column quiet_allows_urgent;
