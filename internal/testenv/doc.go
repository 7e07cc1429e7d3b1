// Package testenv gives tests real servers to stand on: a PostgreSQL, a Kafka
// broker and an HTTP receiver, all on ports of the kernel's choice, all gone when
// the test is. Nothing here imitates a server of ours, and only tests may import
// it.
//
// A package that uses the databases hands its run to Main, which stops what the
// tests started:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// DATABASE_URL and KRIB_TEST_KAFKA_BROKERS put the same tests on servers that
// somebody else runs. Tests of internal/store live in package store_test, because
// this package imports that one.
package testenv
