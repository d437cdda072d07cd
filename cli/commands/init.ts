import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Argument, Option, type Command } from 'commander';
import { CONFIG_FILE } from '../../artifacts/index.ts';
import { CfnError, modelReferenceSchema, nameSchema } from '../../proto/index.ts';
import type { Cli } from '../context.ts';

const FUNCTIONS = new URL('../../functions/', import.meta.url);
/** How a template imports the SDK's types here, and how the project does: the types are copied into it. */
const SDK_IMPORT = { template: '../../../sdk/index.ts', project: './cfn.ts' } as const;

const GITIGNORE = 'node_modules/\n.cfn/\n.dev.vars\n';
const TSCONFIG = {
  compilerOptions: {
    target: 'ES2022',
    module: 'ESNext',
    moduleResolution: 'Bundler',
    lib: ['ES2022', 'DOM', 'DOM.Iterable'],
    types: [],
    strict: true,
    noEmit: true,
    allowImportingTsExtensions: true,
  },
  include: ['src'],
};

export function register(program: Command, cli: Cli): void {
  program
    .command('init')
    .description('Make a function project from a template')
    .addArgument(new Argument('<dir>', 'folder to make, or an empty one; its name becomes the function’s'))
    .addOption(
      new Option('--template <name>', 'hello: a function; model: one that runs a model')
        .choices(['hello', 'model'])
        .default('hello'),
    )
    .option('--model <owner/name@version>', 'model that the template `model` binds')
    .action((dir: string, options: InitOptions) => init(dir, options, cli));
}

interface InitOptions {
  readonly template: 'hello' | 'model';
  readonly model?: string;
}

async function init(dir: string, { template, model }: InitOptions, { context, output }: Cli): Promise<void> {
  const project = resolve(context.cwd, dir);
  const name = nameSchema.safeParse(basename(project));
  if (!name.success)
    throw new CfnError('CFN_USAGE', `the folder's name becomes the function's: ${name.error.issues[0]?.message ?? ''}`);
  if (template === 'model' && !modelReferenceSchema.safeParse(model).success) {
    throw new CfnError('CFN_USAGE', 'the template "model" needs --model owner/name@version');
  }
  await demandEmpty(project);

  const source = fileURLToPath(new URL(`templates/${template}/`, FUNCTIONS));
  await cp(source, project, { recursive: true });
  await edit(join(project, CONFIG_FILE), (text) =>
    text.replace(/^name = .*$/m, `name = "${name.data}"`).replace(/^model = .*$/m, `model = "${model ?? ''}"`),
  );
  await edit(join(project, 'src', 'index.ts'), (text) => text.replaceAll(SDK_IMPORT.template, SDK_IMPORT.project));
  await cp(fileURLToPath(new URL('sdk/index.ts', FUNCTIONS)), join(project, 'src', 'cfn.ts'));
  await writeFile(join(project, 'tsconfig.json'), `${JSON.stringify(TSCONFIG, null, 2)}\n`);
  await writeFile(join(project, '.gitignore'), GITIGNORE);

  const shown = relative(context.cwd, project) || '.';
  output.result({ name: name.data, dir: project, template }, [
    `made ${shown} from the template ${template}`,
    `next: cfn dev ${shown}`,
  ]);
}

async function demandEmpty(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    if ((await readdir(folder)).length === 0) return;
  } catch (cause) {
    throw new CfnError('CFN_USAGE', `cannot make ${folder}: ${(cause as NodeJS.ErrnoException).code ?? 'unknown'}`, {
      cause,
    });
  }
  throw new CfnError('CFN_CONFLICT', `${folder} is not empty`);
}

async function edit(file: string, change: (text: string) => string): Promise<void> {
  await writeFile(file, change(await readFile(file, 'utf8')));
}
