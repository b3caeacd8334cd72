// The import table of docs/architecture.md as rules: which folder may import which.
const table = {
  kernel: [],
  wire: ['kernel'],
  raft: ['kernel'],
  storage: ['kernel', 'wire'],
  net: ['kernel', 'wire'],
  replica: ['kernel', 'wire', 'raft', 'storage', 'net'],
  'command-log': ['kernel', 'wire', 'net'],
  views: ['kernel', 'wire'],
  catalog: ['kernel'],
  client: ['kernel', 'wire', 'net'],
  platform: ['kernel'],
};
const roots = ['raft-log', 'materializer', 'gateway'];
const libRules = Object.entries(table).map(([lib, allowed]) => ({
  name: `libs-${lib}`,
  comment: `libs/${lib} may import ${allowed.length ? allowed.map((a) => `libs/${a}`).join(', ') : 'no other library'}`,
  severity: 'error',
  from: { path: `^libs/${lib}/` },
  to: { path: '^(libs|apps|test)/', pathNot: [lib, ...allowed].map((a) => `^libs/${a}/`) },
}));

module.exports = {
  forbidden: [
    ...libRules,
    ...roots.map((app) => ({
      name: `apps-${app}`,
      comment: `apps/${app} imports libraries only`,
      severity: 'error',
      from: { path: `^apps/${app}/` },
      to: { path: '^(apps|test)/', pathNot: `^apps/${app}/` },
    })),
    {
      name: 'apps-standalone',
      comment: 'apps/standalone imports libraries and the root modules of the three apps',
      severity: 'error',
      from: { path: '^apps/standalone/' },
      to: { path: '^(apps|test)/', pathNot: ['^apps/standalone/', `^apps/(${roots.join('|')})/src/index\\.ts$`] },
    },
    {
      name: 'apps-cli',
      comment:
        'the command line speaks through the client library; it starts servers as processes or by a dynamic import of an app',
      severity: 'error',
      from: { path: '^apps/cli/' },
      to: {
        path: '^(apps|libs|test)/',
        pathNot: [
          '^apps/cli/',
          '^libs/(client|kernel|platform|storage)/',
          '^apps/(standalone|raft-log|materializer|gateway)/src/index\\.ts$',
        ],
      },
    },
    {
      name: 'nobody-imports-test',
      severity: 'error',
      from: { pathNot: '^test/' },
      to: { path: '^test/' },
    },
    {
      name: 'nest-only-at-the-edges',
      comment: 'only catalog, platform, net/nest, client/nest and the apps import Nest',
      severity: 'error',
      from: { path: '^libs/', pathNot: ['^libs/(catalog|platform)/', '^libs/(net|client)/src/nest/'] },
      to: { path: '@nestjs/' },
    },
    {
      name: 'raft-is-pure',
      comment: 'the consensus core uses no Node module and no package',
      severity: 'error',
      from: { path: '^libs/raft/', pathNot: '\\.spec\\.ts$' },
      to: { dependencyTypes: ['core', 'npm', 'npm-dev'] },
    },
    {
      name: 'through-the-public-index',
      comment: 'a library is imported through its src/index.ts (or src/nest/index.ts, src/testing/index.ts)',
      severity: 'error',
      from: { path: '^(libs|apps|test)/([^/]+)/' },
      to: {
        path: '^libs/[^/]+/src/',
        pathNot: [
          '^libs/$2/',
          '^libs/[^/]+/src/(nest/|testing/)?index\\.ts$',
          '^libs/[^/]+/src/testing/[^/]+\\.conformance\\.ts$',
        ],
      },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      extensions: ['.ts', '.js', '.mjs', '.json'],
    },
  },
};
