// The command line. Finds the sub-command, loads only its module (start-up stays short), runs it and turns every error into
// one line on standard error and an exit code of src/cli/exit-codes.ts. Started by bin/tensorpress.

import type { Command } from './cli/command.ts'
import { AppError } from './errors.ts'

/** Every sub-command: its module exports it as `command`. Summaries stand here too so that --help loads nothing. */
const COMMANDS: Record<string, { summary: string; load: () => Promise<{ command: Command }> }> = {
  serve: { summary: 'serve the REST API', load: () => import('./cli/serve.ts') },
  inspect: { summary: 'show what a model file holds', load: () => import('./cli/inspect.ts') },
  plan: { summary: 'show what a recipe would do to each tensor and why', load: () => import('./cli/plan.ts') },
  compress: { summary: 'compress a model, validate the result, write it', load: () => import('./cli/compress.ts') },
  validate: { summary: 'compare a compressed model with its original', load: () => import('./cli/validate.ts') },
  keys: { summary: 'make an API key for the server', load: () => import('./cli/keys.ts') },
  bench: { summary: 'measure speed and memory on this machine', load: () => import('./cli/bench.ts') },
  gc: { summary: 'remove what has expired from a data folder that no server uses', load: () => import('./cli/gc.ts') },
  backup: { summary: 'copy a data folder, also one that a server is using', load: () => import('./cli/backup.ts') },
  doctor: { summary: 'show which devices and libraries were found', load: () => import('./cli/doctor.ts') },
}

async function main(argv: string[]): Promise<number> {
  const [name, ...rest] = argv
  if (name === undefined || name === '--help' || name === '-h' || (name === 'help' && rest.length === 0)) {
    const [{ generalHelp }, { VERSION }] = await Promise.all([import('./cli/help.ts'), import('./version.ts')])
    const rows = Object.entries(COMMANDS).map(([command, { summary }]) => ({ name: command, summary }))
    const stream = name === undefined ? process.stderr : process.stdout
    stream.write(generalHelp(rows, VERSION))
    return name === undefined ? 2 : 0
  }
  if (name === '--version' || name === '-V') {
    process.stdout.write(`${(await import('./version.ts')).VERSION}\n`)
    return 0
  }
  if (name === 'help') return main([rest[0]!, '--help'])
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  const [{ parseCommandLine }, { nearest }] = await Promise.all([import('./cli/command.ts'), import('./nearest.ts')])
  if (entry === undefined) {
    const near = nearest(name, Object.keys(COMMANDS))
    const hint = near ? `did you mean "${near}"?` : `known: ${Object.keys(COMMANDS).join(', ')}`
    throw new AppError('usage', `unknown command "${name}"; ${hint}`)
  }
  const { command } = await entry.load()
  const end = rest.indexOf('--')
  if (rest.slice(0, end === -1 ? rest.length : end).some((word) => word === '--help' || word === '-h')) {
    process.stdout.write((await import('./cli/help.ts')).commandHelp(command))
    return 0
  }
  return command.run(parseCommandLine(command, rest))
}

/** One line, whatever the detail holds. A bug also shows where it happened. */
async function complain(thrown: unknown): Promise<number> {
  const [{ exitCodeOf }, { printable }] = await Promise.all([
    import('./cli/exit-codes.ts'),
    import('./cli/text-table.ts'),
  ])
  const error = AppError.from(thrown)
  process.stderr.write(`tensorpress: ${printable(error.detail.replaceAll(/\s*\n\s*/g, '; '))} [${error.code}]\n`)
  if (error.code === 'internal') process.stderr.write(`${(thrown as Error).stack ?? ''}\n`)
  return exitCodeOf(error)
}

// A reader that closed the pipe (`| head`) wants no more output: that is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

process.exitCode = await main(process.argv.slice(2)).catch(complain)
