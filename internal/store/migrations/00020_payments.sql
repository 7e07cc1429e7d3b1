-- +goose Up

-- A reference is an agent's own word, so it is unique among that agent's words; what a
-- provider's signed event says is unique for the provider, and outranks them.
--
-- What this release writes has its reference in provider_reference and none in
-- reference. The release before infers its conflicts from the unique constraint on
-- (provider, reference): it stays, for the rows of that release, and nulls are distinct.
alter table payments
  alter column reference drop not null,
  add column provider_reference text,
  add column verified boolean not null default false,
  add column refund_of text, -- the reference of the payment that a refund takes from
  drop constraint payments_amount_positive,
  add constraint payments_amount_not_zero check (amount <> 0),
  add constraint payments_reference_given check (reference is not null or provider_reference is not null),
  add constraint payments_refund_negative check (amount > 0 or refund_of is not null);
create unique index payments_claim_unique on payments (agent_id, provider, provider_reference) where not verified;
create unique index payments_verified_unique on payments (provider, provider_reference) where verified;
create index payments_by_reference on payments (provider, provider_reference) where not verified;
create index payments_by_refund on payments (refund_of) where refund_of is not null;

-- What Stripe has said of refunds, by payment: each refund by its id, and for each
-- charge the most that was refunded of it. Their order does not matter.
create table stripe_refunds (
  payment text not null,
  id text not null,
  charge boolean not null, -- id is a charge's, and amount what was refunded of it in all
  amount bigint not null constraint stripe_refunds_amount_positive check (amount > 0),
  failed boolean not null,
  received_at timestamptz not null default now(),
  constraint stripe_refunds_pk primary key (payment, id)
);
grant select, insert, update (amount, failed) on stripe_refunds to krib_api;
grant select, insert, update, delete on stripe_refunds to krib_jobs;
alter table stripe_refunds enable row level security;
alter table stripe_refunds force row level security;
create policy stripe_refunds_jobs on stripe_refunds to krib_jobs using (true) with check (true);
create policy stripe_refunds_owner on stripe_refunds to current_user using (true) with check (true);
create policy stripe_refunds_api on stripe_refunds to krib_api using (krib_platform()) with check (krib_platform());

-- +goose Down
drop table stripe_refunds;
delete from payments where reference is null;
drop index payments_claim_unique, payments_verified_unique, payments_by_reference, payments_by_refund;
alter table payments
  drop constraint payments_reference_given, drop constraint payments_refund_negative, drop constraint payments_amount_not_zero,
  add constraint payments_amount_positive check (amount > 0),
  drop column provider_reference, drop column verified, drop column refund_of,
  alter column reference set not null;
