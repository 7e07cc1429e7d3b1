#!/bin/bash
# $1 is a class of Kafka's, the rest are its arguments. The heap is KAFKA_HEAP_OPTS.
log4j=${KAFKA_LOG4J_CONFIG:-/etc/kafka/docker/tools-log4j2.yaml}
# shellcheck disable=SC2086 # options are words
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} ${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC} ${KAFKA_OPTS:-} \
	-Dkafka.logs.dir=/opt/kafka/logs -Dlog4j2.configurationFile="$log4j" -cp '/opt/kafka/libs/*' "$@"
