// SPDX-License-Identifier: GPL-2.0
/* The programs of rlvs-toa: a real server's applications see who is behind the balancer. */
#include <stdbool.h>
#include <stddef.h>
#include "common.h"
#include "tcp.h"
#include "udp.h"

char _license[] SEC("license") = "GPL";
