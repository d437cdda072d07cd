import { uptime } from 'node:os';

/**
 * The clock of leases, in ms, to 10 ms: the time since the machine started (CLOCK_BOOTTIME, as /proc/uptime shows it). Nobody sets it, so that
 * a wall clock set back stretches no lease; and unlike the clock behind timers it goes on while the machine is suspended. What waits for
 * the end of a lease wakes up at least every {@link LEASE_WAKE_MS}, because timers do not see a suspend.
 */
export const leaseClockMs = (): number => uptime() * 1000;
export const LEASE_WAKE_MS = 500;
