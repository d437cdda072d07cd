const { builtinModules } = require('node:module');

// The import table of the house: who may reach which room, and by which door.
// A room reads "may import these". `attestation` has a door per part.
const MAY_IMPORT = {
  proto: [],
  'attestation/evidence': ['proto'],
  'attestation/verifier': ['proto', 'attestation/evidence'],
  'attestation/attester': ['proto', 'attestation/evidence'],
  // Verifies before it keeps.
  'attestation/collateral': ['proto', 'attestation/evidence', 'attestation/verifier'],
  'attestation/insecure': ['proto', 'attestation/evidence', 'attestation/attester', 'attestation/verifier'],
  artifacts: ['proto'],
  functions: ['proto'],
  gateway: ['proto', 'attestation/verifier', 'client'],
  relay: ['proto'],
  // Clients of the key broker protocol bring no endorsements: the KMS fetches them.
  kms: ['proto', 'attestation/verifier', 'attestation/collateral'],
  // A worker fetches endorsements of its own evidence.
  runtime: ['proto', 'attestation/attester', 'attestation/collateral', 'artifacts'],
  client: ['proto', 'attestation/verifier'],
  // The CLI is a relying party: it appraises for its user. Inside a TEE it collects evidence, too.
  cli: [
    'proto',
    'attestation/verifier',
    'attestation/attester',
    'attestation/collateral',
    'client',
    'artifacts',
    'functions',
  ],
};
const ROOMS = 'proto|attestation|artifacts|functions|gateway|relay|kms|runtime|client|cli|deploy|test|bench|scripts';
// `fs` and `node:fs` alike.
const NODE_MODULES_OF_ITS_OWN = `^(node:)?(${builtinModules.join('|')})$`;
// Tests, and what only tests import, may cross rooms and look behind doors.
const TESTS = '(\\.(test|contract|testkit|harness|fixture)|/testkit|/testing|/test-[a-z-]+)\\.ts$';

const rooms = Object.entries(MAY_IMPORT).map(([room, allowed]) => ({
  name: `${room.replace('/', '-')}-may-not-import`,
  severity: 'error',
  from: { path: `^${room}/`, pathNot: [TESTS, '^cli/commands/(dev|doctor)\\.ts$'] },
  to: { path: `^(${ROOMS})/`, pathNot: `^(${[room, ...allowed].join('|')})/` },
}));

module.exports = {
  forbidden: [
    ...rooms,
    {
      name: 'dev-starts-the-local-system-alone',
      comment: '`cfn dev` may import deploy/local.ts beside what the CLI may',
      severity: 'error',
      from: { path: '^cli/commands/dev\\.ts$' },
      to: { path: `^(${ROOMS})/`, pathNot: `^(cli|${MAY_IMPORT.cli.join('|')})/|^deploy/local\\.ts$` },
    },
    {
      name: 'the-doctor-looks-at-the-jail',
      comment: '`cfn doctor` tries the layers of the sandbox; of the runtime it may import them alone',
      severity: 'error',
      from: { path: '^cli/commands/doctor\\.ts$' },
      to: { path: `^(${ROOMS})/`, pathNot: `^(cli|${MAY_IMPORT.cli.join('|')})/|^runtime/jail/index\\.ts$` },
    },
    {
      name: 'insecure-only-where-simulated',
      comment: 'no production build can trust the root of a simulated platform',
      severity: 'error',
      from: {
        pathNot: [
          TESTS,
          '^attestation/insecure/',
          '^deploy/(local|simulated-worker|measure-worker)\\.ts$',
          '^(test|bench)/',
          '^scripts/fuzz/',
        ],
      },
      to: { path: '^attestation/insecure/' },
    },
    {
      name: 'through-the-door',
      comment:
        'other rooms import index.ts, or the sub-doors proto/node.ts and proto/grpc.ts; what is bundled into isolates takes single files of proto, as its door brings jose and zod along',
      severity: 'error',
      from: {
        path: `^(${ROOMS})/`,
        pathNot: [TESTS, '^(test|bench|deploy)/', '^runtime/sandbox/platform/', '^scripts/fuzz/'],
      },
      to: {
        path: '^(proto|artifacts|functions|gateway|relay|kms|runtime|client|cli)/',
        pathNot: ['^$1/', '/index\\.ts$', '^proto/(node|grpc)\\.ts$'],
      },
    },
    {
      name: 'through-the-door-of-the-store',
      severity: 'error',
      from: { path: '^gateway/', pathNot: [TESTS, '^gateway/store/'] },
      to: { path: '^gateway/store/', pathNot: '/store/index\\.ts$' },
    },
    {
      name: 'through-the-attestation-door',
      severity: 'error',
      // The fuzzer asks every parser by itself.
      from: { path: `^(${ROOMS})/`, pathNot: [TESTS, '^attestation/', '^(test|bench)/', '^scripts/fuzz/'] },
      to: { path: '^attestation/', pathNot: '^attestation/(verifier|attester|collateral|insecure)/index\\.ts$' },
    },
    {
      name: 'runs-in-a-browser',
      comment: 'client, evidence, verifier and the main door of proto reach nothing of Node',
      severity: 'error',
      from: { path: ['^(client|attestation/(evidence|verifier))/', '^proto/index\\.ts$'], pathNot: TESTS },
      to: { path: NODE_MODULES_OF_ITS_OWN, reachable: true },
    },
    {
      name: 'nobody-imports-tests',
      severity: 'error',
      from: { pathNot: [TESTS, '^(test|bench)/'] },
      to: { path: [TESTS, '^(test|bench)/'] },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    {
      name: 'no-dev-dependency-in-production',
      severity: 'error',
      from: { pathNot: [TESTS, '^(test|bench|scripts)/', '^vitest\\.config\\.ts$'] },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    includeOnly: { path: `^(${ROOMS})/|^node_modules/|^[a-z0-9_:-]+(/[a-z]+)?$` },
    exclude: { path: '(^|/)(\\.cfn|dist|coverage)/' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.cjs', '.mjs', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['node', 'import', 'default', 'types'],
    },
  },
};
