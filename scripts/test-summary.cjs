// Prints `N passed, N failed` from vitest's JSON report, and ends with 1 when anything failed. Plain JavaScript without
// imports of ours: it has to speak also when the installation failed, and on Node 20.
// Usage: node test-summary.cjs REPORT EXIT_STATUS_OF_THE_RUN
const { readFileSync } = require('node:fs');

const [file, status] = process.argv.slice(2);
let passed = 0;
let failed = 0;
try {
  const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(file, 'utf8'));
  passed = numPassedTests;
  // A file that does not even load has failed without a failed test in it.
  const broken = testResults.filter(
    (result) => result.status === 'failed' && !result.assertionResults.some((test) => test.status === 'failed'),
  );
  failed = numFailedTests + broken.length;
} catch {
  // No report: nothing ran.
}
// An error outside of any test, or no run at all, must not look like success.
if (failed === 0 && (status !== '0' || passed === 0)) failed = 1;
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
