-- Every kind of object and type that a dump must bring back. Runs on versions 13 to 18. It stands for the database that
-- PostgreSQL's own regression tests make: Debian's packages have pg_regress and none of the SQL that it would run.
create role keeper; create role reader; create role "Odd ""Role""";
create extension if not exists plpgsql;
create schema app authorization keeper;
create schema "Odd Schema.with ""quotes""";
comment on schema app is 'it''s ours';
create extension hstore schema app; create extension btree_gist;
create table app.extended (h app.hstore, during tstzrange, room int, exclude using gist (room with =, during with &&));
insert into app.extended values ('a=>1, "b c"=>NULL', '[2026-01-01,2026-01-02)', 1);

create type app.mood as enum ('sad', 'it''s ok', 'happy');
create domain app.positive as int check (value > 0);
create type app.pair as (a int, b text);
create type app.floatrange as range (subtype = float8);
create collation app.plain from "C";

create table app.types (
    id bigint generated always as identity primary key,
    b bool, i2 int2, i4 int4, i8 int8, n numeric, n2 numeric(10,3), f4 float4, f8 float8, m money,
    c char(5), vc varchar(20), t text, nm name, ch "char", by bytea,
    ts timestamp, tz timestamptz, d date, tm time, tmz timetz, iv interval,
    u uuid, j json, jb jsonb, x xml, tv tsvector, tq tsquery,
    pt point, ln line, ls lseg, bx box, pa path, po polygon, ci circle,
    ine inet, cid cidr, mac macaddr, mac8 macaddr8, bi bit(5), vb bit varying(9),
    lsn pg_lsn, snap txid_snapshot, snap2 pg_snapshot, o oid, rc regclass, rt regtype, rp regproc, tidc tid, xi xid, xi8 xid8,
    e app.mood, dm app.positive, cp app.pair, ir int4range, nr numrange, tr tstzrange, dr daterange, fr app.floatrange,
    ia int[], ta text[], ea app.mood[], ca app.pair[], ia2 int[][], jp jsonpath, acl aclitem
);
insert into app.types (b, i2, i4, i8, n, n2, f4, f8, m, c, vc, t, nm, ch, by, ts, tz, d, tm, tmz, iv, u, j, jb, x, tv, tq,
    pt, ln, ls, bx, pa, po, ci, ine, cid, mac, mac8, bi, vb, lsn, snap, snap2, o, rc, rt, rp, tidc, xi, xi8, e, dm, cp,
    ir, nr, tr, dr, fr, ia, ta, ea, ca, ia2, jp, acl) values
 (true, -32768, 2147483647, -9223372036854775808, 'NaN', 1234567.891, '-infinity', 0.1 + 0.2, '-12.34', 'ab', 'x', E'tab\tnew\nline\\ back', 'n', 'q', '\x00ff0a5c',
  '4713-01-01 00:00:00 BC', 'infinity', '5874897-12-31', '24:00:00', '12:00:00.123456-07', '-1 year 2 mons -3 days 04:05:06.789', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
  '{"a" :  1, "a": 2}', '{"b": [1, 1.50, null]}', '<a>&amp;</a>', 'a:1A b:2', 'a & !b:*', '(1.1,-0)', '{1,2,3}', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))', '<(0,0),1>',
  '192.168.1.5/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'101', '16/B374D848', '10:20:10,14,15', '10:20:10,14,15', 4294967295, 'pg_class', 'int4', 'now', '(0,1)', '3', '9',
  'it''s ok', 5, row(1, 'x,"y'), '[1,5)', '(,1.5]', '["2026-01-01 00:00:00+00",)', 'empty', '[1.5,2.5]', '{1,NULL,3}', array['a', 'NULL', null, '', 'x"y\z', '{}'], array['sad', 'happy']::app.mood[], array[row(1,'a')::app.pair], '[0:1][2:3]={{1,2},{3,4}}', '$.a[*] ? (@ > 1)', 'postgres=r/postgres'),
 (null, null, null, null, '1e-100', null, 'NaN', 'infinity', null, null, null, '', null, null, '', '-infinity', '0044-03-15 12:00:00+00 BC', '-infinity', null, null, null, null,
  'null', 'null', null, '', '', null, null, null, null, '((0,0),(1,1))', null, null, '::1', '::/0', null, null, null, B'', null, null, null, null, null, null, null, null, null, null,
  null, null, row(null, null), 'empty', null, null, '[2026-01-01,2026-12-31]', null, '{}', '{}', null, null, null, null, null),
 (false, 0, 0, 0, 0, 0, 1e-45, 4.9e-324, 0, '', 'ü€😀', repeat('ä', 3000), '', '\000', decode(repeat('deadbeef', 2000), 'hex'), now()::timestamp, '2026-11-21 12:00:00.5+00', '2026-11-21', '00:00', '00:00+00', '0', null,
  '[]', '{}', '<!-- x --><b/>', null, null, '(nan,inf)', null, null, null, null, null, null, '10.1.2.3', null, null, null, null, null, '0/0', null, null, null, null, null, null, null, null, null, 'happy', 1, null,
  null, null, null, null, null, null, null, null, null, null, null, null);

create table "Odd Schema.with ""quotes"""."table with
newline, ""quotes"" and ö.dot/slash" ("select" int primary key, "Col ""x""" text default 'it''s', "new
line" int);
insert into "Odd Schema.with ""quotes"""."table with
newline, ""quotes"" and ö.dot/slash" values (1, '\N', null), (2, '\.', 3);
create table app.a23456789012345678901234567890123456789012345678901234567890123 (a int);
insert into app.a23456789012345678901234567890123456789012345678901234567890123 select generate_series(1, 1000);
create table app."order" ("user" text, "table" text collate app.plain);
create table app.empty (a int);
create table app.no_columns ();
insert into app.no_columns default values; insert into app.no_columns default values;
create table app.dropped (a int, gone text, b int);
insert into app.dropped values (1, 'x', 2); alter table app.dropped drop column gone; alter table app.dropped add c text default 'later';
create table app.generated (a int, twice int generated always as (a * 2) stored, note text);
insert into app.generated (a, note) select n, 'n' || n from generate_series(1, 100) n;
create table app.only_generated (g int generated always as (1 + 1) stored);
insert into app.only_generated default values;
create table app.by_default (id int generated by default as identity (start 100 increment 5), s serial, bs bigserial);
insert into app.by_default default values; insert into app.by_default default values;
create sequence app.lonely increment -3 minvalue -100 maxvalue 100 start 50 cycle;
select nextval('app.lonely'), nextval('app.lonely');
create sequence app.untouched;

create table app.measures (at timestamptz not null, place text not null, v float8, primary key (at, place)) partition by range (at);
create table app.measures_old partition of app.measures for values from (minvalue) to ('2026-01-01') partition by list (place);
create table app.measures_old_a partition of app.measures_old for values in ('a', 'b');
create table app.measures_old_rest partition of app.measures_old default;
create table app.measures_new (v float8, place text not null, at timestamptz not null);
alter table app.measures attach partition app.measures_new for values from ('2026-01-01') to ('2027-01-01');
insert into app.measures select '2025-06-01'::timestamptz + n * interval '1 day', chr(97 + n % 5), n from generate_series(0, 400) n;
create table app.moods (m app.mood, n int) partition by hash (m);
create table app.moods_0 partition of app.moods for values with (modulus 3, remainder 0);
create table app.moods_1 partition of app.moods for values with (modulus 3, remainder 1);
create table app.moods_2 partition of app.moods for values with (modulus 3, remainder 2);
insert into app.moods select (enum_range(null::app.mood))[1 + n % 3], n from generate_series(1, 300) n;
create table app.parent (id int primary key, kind text);
create table app.child (extra text) inherits (app.parent);
insert into app.parent values (1, 'p'); insert into app.child values (2, 'c', 'x');
create table app.toasted (id int primary key, big text, raw bytea);
alter table app.toasted alter raw set storage external;
insert into app.toasted select n, string_agg(md5((n * k)::text), ''), decode(string_agg(md5((n + k)::text), ''), 'hex')
    from generate_series(1, 5) n, generate_series(1, 20000) k group by n;
create unlogged table app.fleeting (a int); insert into app.fleeting values (1);
create table app.many (id int primary key, v text, at timestamp);
insert into app.many select n, md5(n::text), '2026-01-01'::timestamp + n * interval '1 second' from generate_series(1, 20000) n;
create index many_v on app.many (v) include (id) where id > 10; create index many_expr on app.many (lower(v), (id % 7) desc nulls last);
create index many_brin on app.many using brin (at); create statistics app.many_stats on id, v from app.many;
alter table app.many cluster on many_pkey; alter table app.many replica identity using index many_pkey;
create table app.refers (id int references app.many (id) on delete cascade deferrable initially deferred, other int, check (other > 0), unique (other),
    exclude using btree (id with =));
insert into app.refers values (5, 1), (6, 2);
alter table app.parent add constraint unchecked check (id < 1000) not valid;

create function app.inner_trap(a int) returns int language plpgsql immutable as $$ begin return a + 1; end $$;
create or replace function app.trap(a int) returns int language sql immutable as $$ select app.inner_trap(a) $$;
create function app.stamp() returns trigger language plpgsql as $$ begin new.v := new.v || '!'; return new; end $$;
create trigger stamp before insert or update on app.many for each row execute function app.stamp();
create procedure app.proc(inout a int) language plpgsql as $$ begin a := a + 1; end $$;
create aggregate app.total(int) (sfunc = int4pl, stype = int, initcond = '0');
create function app.same(a int, b int) returns bool language sql immutable as 'select a = b';
create operator app.=== (leftarg = int, rightarg = int, function = app.same);
create cast (app.pair as text) with inout;
create index many_trap on app.many (app.inner_trap(id));
create view app.v1 as select id, v from app.many where id < 100;
create view app.v2 with (security_barrier) as select v1.v, count(*) as n from app.v1 group by 1;
create or replace view app.v1 as select id, v from app.many where id < 50 with check option;
create view app.grouped as select id, kind from app.parent group by id;
create materialized view app.m1 as select id % 10 as k, count(*) as n from app.many group by 1;
create unique index on app.m1 (k);
create materialized view app.m2 as select sum(n) as n from app.m1;
create materialized view app.m3 as select 1 as a with no data;
create rule noisy as on insert to app.v2 do instead nothing;
create table app.hidden (owner text, secret text);
alter table app.hidden enable row level security; alter table app.hidden force row level security;
create policy own on app.hidden for select to reader using (owner = current_user);
create policy rest on app.hidden as restrictive using (true) with check (secret <> '');
insert into app.hidden values ('reader', 's'), ('other', 't');
create publication pub for table app.many, app.parent with (publish = 'insert, update');
create publication pub_all for all tables;
create subscription sub connection 'dbname=nowhere' publication pub with (connect = false);
create function app.watch() returns event_trigger language plpgsql as $$ begin null; end $$;
create event trigger watching on ddl_command_end when tag in ('CREATE TABLE') execute function app.watch();
create foreign data wrapper nowhere; create server far foreign data wrapper nowhere;
create foreign table app.distant (a int) server far; create user mapping for reader server far;
create text search configuration app.words (copy = simple);

create table app.names (a regclass, b regtype, c regproc, d regprocedure, e regoper, f regoperator, g regnamespace, h regconfig,
    i regdictionary, j regcollation, k oidvector, l int2vector, m cid, n refcursor, o interval day to second(3), p timestamp(0)[], q char(3)[],
    r bit varying[], s money[], t xml[], u tsquery[], v box[], w jsonb[], x app.positive[]);
insert into app.names values ('app.many', 'app.mood', 'app.inner_trap', 'app.trap(int)', 'app.===', 'app.===(int,int)', 'app', 'app.words',
    'simple', 'app.plain', '1 2', '3 -4', '5', 'cursor', '3 04:05:06.7894', '{2026-01-01 00:00:00.7,infinity}', '{a,"b c",NULL}',
    '{101,NULL}', '{-1.5}', '{<a/>,NULL}', '{"''a b'' & c"}', '{(1,1),(0,0);(2,2),(1,1)}', '{"{\"a\": [1]}",null}', '{1,NULL}');
-- What only newer versions have.
do $$ declare version int := current_setting('server_version_num'); begin
if version >= 140000 then
    execute 'create table app.multi (id int primary key, a int4multirange, t tstzmultirange, f app.floatmultirange)';
    execute 'insert into app.multi values (1, ''{[1,3),[5,)}'', ''{}'', ''{[1.5,2.5]}''), (2, null, ''{["2026-01-01 00:00:00+00",)}'', null)';
    execute 'create table app.packed (t text compression pglz)';
end if;
if version >= 150000 then
    execute 'create table app.nulls (a int unique nulls not distinct)';
    execute 'insert into app.nulls values (null), (1)';
    execute 'create view app.invoking with (security_invoker) as select a from app.nulls';
    execute 'create publication pub_some for table app.parent where (id < 10)';
    execute 'create publication pub_schema for tables in schema app';
end if;
if version >= 170000 then
    execute 'create table app.numbered (id int generated always as identity, n int) partition by range (n)';
    execute 'create table app.numbered_low partition of app.numbered for values from (0) to (50)';
    execute 'create table app.numbered_high partition of app.numbered for values from (50) to (1000)';
    execute 'insert into app.numbered (n) select n from generate_series(1, 100) n';
end if;
if version >= 180000 then
    execute 'create table app.unstored (a int, twice int generated always as (a * 2) virtual, b text)';
    execute 'insert into app.unstored (a, b) select n, ''b'' || n from generate_series(1, 100) n';
    execute 'create table app.booked (room int, during tstzrange, primary key (room, during without overlaps))';
    execute 'insert into app.booked values (1, ''[2026-01-01,2026-01-02)''), (1, ''[2026-01-02,2026-01-03)'')';
    execute 'alter table app.refers add constraint loose check (id > 1000) not enforced';
end if;
end $$;

alter table app.many owner to keeper; alter table app.types owner to "Odd ""Role""";
grant select on app.many to reader with grant option; grant select (kind), update (id) on app.parent to reader; grant usage on schema app to reader;
grant execute on function app.trap(int) to reader; revoke execute on function app.trap(int) from public;
grant all on sequence app.lonely to keeper;
alter default privileges in schema app grant select on tables to reader;
comment on table app.many is E'two\nlines'; comment on column app.many.v is 'c'; comment on index app.many_v is 'i'; comment on constraint refers_other_check on app.refers is 'k';
comment on database everything is 'all of it';
alter database everything set work_mem = '5MB'; alter database everything set search_path = app, "$user", public;
grant connect on database everything to reader; revoke temporary on database everything from public;
alter role reader in database everything set statement_timeout = '1min';

select lo_from_bytea(4242, '\x0102ff'); select lo_from_bytea(2097152, convert_to(repeat('large object ', 200000), 'UTF8')); select lo_create(77);
alter large object 4242 owner to keeper; grant select on large object 4242 to reader; comment on large object 4242 is 'lo';
analyze app.many;
