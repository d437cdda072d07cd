import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { CHALLENGE_MS, CHALLENGES_MAX } from '../proto/index.ts';
import { openChallenges } from './challenges.ts';

let time = Date.parse('2026-11-01T00:00:00Z');
const open = (): ReturnType<typeof openChallenges> => openChallenges({ now: () => new Date(time), randomBytes });
const invalid = expect.objectContaining({ code: 'CFN_CHALLENGE_INVALID' }) as Error;

describe('challenges', () => {
  test('are fresh, 32 bytes, and good for CHALLENGE_MS', () => {
    const challenges = open();
    const { challenge, expiresAt } = challenges.issue();
    expect(challenge).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(Date.parse(expiresAt)).toBe(time + CHALLENGE_MS);
    time += CHALLENGE_MS - 1;
    expect(() => challenges.take(challenge)).not.toThrow();
  });

  test('are used once', () => {
    const challenges = open();
    const { challenge } = challenges.issue();
    challenges.take(challenge);
    expect(() => challenges.take(challenge)).toThrow(invalid);
  });

  test('are refused when unknown or expired', () => {
    const challenges = open();
    expect(() => challenges.take('A'.repeat(43))).toThrow(invalid);
    const { challenge } = challenges.issue();
    time += CHALLENGE_MS;
    expect(() => challenges.take(challenge)).toThrow(invalid);
  });

  test('are bounded: one more drops the oldest, and only that', () => {
    const challenges = open();
    const [first, second] = [challenges.issue(), challenges.issue()];
    for (let i = 2; i < CHALLENGES_MAX + 1; i++) challenges.issue();
    expect(() => challenges.take(first.challenge)).toThrow(invalid);
    expect(() => challenges.take(second.challenge)).not.toThrow();
  });
});
