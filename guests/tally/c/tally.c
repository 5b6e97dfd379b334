/* Counts the lines of its channel, and never forgets the count. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"

/* Most messages that one slice takes, and where the count lies in `state`, in decimal. */
#define MESSAGES_MAX 100
#define KEY "lines"

typedef exports_duende_daemon_lifecycle_next_t next_t;
typedef exports_duende_daemon_lifecycle_outcome_t outcome_t;

static uint64_t lines;

/* A text as the bindings take it. They do not free what a call is given. */
static daemon_string_t text(const char *s)
{
    daemon_string_t string;
    daemon_string_set(&string, s);
    return string;
}

/* Makes a refused call the failure of the slice. What is returned is freed: it is copied. */
static bool failed(const char *what, duende_daemon_types_error_t *why, outcome_t *err)
{
    char told[64];
    snprintf(told, sizeof told, "%s was refused with error %u", what, (unsigned)why->tag);
    duende_daemon_types_error_free(why);
    err->code = EXIT_FAILURE;
    daemon_string_dup(&err->text, told);
    return false;
}

/* All functions that may fail return whether they did not. */
bool exports_duende_daemon_lifecycle_init(outcome_t *err)
{
    daemon_string_t key = text(KEY);
    daemon_option_list_u8_t kept;
    duende_daemon_types_error_t why;
    if (!duende_daemon_state_get(&key, &kept, &why)) {
        return failed("state.get", &why, err);
    }
    if (kept.is_some) {
        char digits[24] = "";
        size_t len = kept.val.len < sizeof digits ? kept.val.len : sizeof digits - 1;
        memcpy(digits, kept.val.ptr, len);
        lines = strtoull(digits, NULL, 10);
        daemon_option_list_u8_free(&kept);
    }
    char told[64];
    snprintf(told, sizeof told, "going on from line %llu", (unsigned long long)lines);
    daemon_string_t line = text(told);
    if (!duende_daemon_log_write(DUENDE_DAEMON_LOG_LEVEL_INFO, &line, &why)) {
        return failed("log.write", &why, err);
    }
    return true;
}

/* One slice. Either all of it counts, what was received and what was written too, or nothing does. */
bool exports_duende_daemon_lifecycle_run(exports_duende_daemon_lifecycle_wake_t *wake, next_t *ret, outcome_t *err)
{
    (void)wake;
    daemon_string_t channel = text("lines");
    duende_daemon_channel_list_message_t messages;
    duende_daemon_types_error_t why;
    if (!duende_daemon_channel_receive(&channel, MESSAGES_MAX, &messages, &why)) {
        return failed("channel.receive", &why, err);
    }
    size_t received = messages.len;
    for (size_t i = 0; i < received; i++) {
        /* A line that is longer than a message may be comes in parts, and is one line all the same. */
        duende_daemon_channel_part_t part = messages.ptr[i].part;
        lines += part == DUENDE_DAEMON_CHANNEL_PART_WHOLE || part == DUENDE_DAEMON_CHANNEL_PART_FIRST;
    }
    duende_daemon_channel_list_message_free(&messages);
    if (received > 0) {
        char digits[24];
        int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)lines);
        daemon_string_t key = text(KEY), metric = text("lines");
        daemon_list_u8_t value = {(uint8_t *)digits, (size_t)len};
        if (!duende_daemon_state_set(&key, &value, &why)) {
            return failed("state.set", &why, err);
        }
        if (!duende_daemon_metric_gauge_set(&metric, (double)lines, &why)) {
            return failed("metric.gauge-set", &why, err);
        }
    }
    ret->tag = received == MESSAGES_MAX ? EXPORTS_DUENDE_DAEMON_LIFECYCLE_NEXT_AGAIN
                                        : EXPORTS_DUENDE_DAEMON_LIFECYCLE_NEXT_WAIT;
    return true;
}

bool exports_duende_daemon_lifecycle_shutdown(exports_duende_daemon_lifecycle_instant_t deadline, next_t *ret, outcome_t *err)
{
    (void)deadline;
    (void)err;
    ret->tag = EXPORTS_DUENDE_DAEMON_LIFECYCLE_NEXT_EXIT;
    ret->val.exit.code = EXIT_SUCCESS;
    daemon_string_dup(&ret->val.exit.text, "");
    return true;
}

void exports_duende_daemon_lifecycle_health_check(exports_duende_daemon_lifecycle_health_t *ret)
{
    *ret = (exports_duende_daemon_lifecycle_health_t){.status = EXPORTS_DUENDE_DAEMON_LIFECYCLE_HEALTH_STATUS_HEALTHY};
    daemon_string_dup(&ret->detail, "");
}

void exports_duende_daemon_lifecycle_metrics(exports_duende_daemon_lifecycle_list_sample_t *ret)
{
    *ret = (exports_duende_daemon_lifecycle_list_sample_t){0};
}
