// A root file system with nothing in it but the libraries that the bundle asks of a host, and programs run in it by chroot in
// mount and pid namespaces of their own. Entries: makeEmptyRoot, addLibraries, startInRoot, runInRoot. Needs Linux and root.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { basename, dirname, join } from 'node:path'

/** Why this machine cannot do it, or null. */
export function whyImpossible(): string | null {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'the bundle is for Linux x64'
  if (process.getuid?.() !== 0) return 'chroot and mounts need root'
  const missing = ['unshare', 'chroot', 'mount', 'ldd', 'dash', 'strip', 'xz', 'tar', 'dpkg-query'].filter(
    (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0,
  )
  if (missing.length > 0) return `not found: ${missing.join(', ')}`
  if (spawnSync('unshare', ['--mount', '--pid', '--fork', 'true']).status !== 0) return 'unshare is not allowed here'
  return null
}

/** Paths of the libraries, and the loader, that a program or library is linked with; all the way down. */
export function linkedLibraries(path: string): string[] {
  const { stdout, status } = spawnSync('ldd', [path], { encoding: 'utf8' })
  if (status !== 0 || /not found/.test(stdout)) throw new Error(`ldd ${path}: ${stdout}`)
  return [...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map((match) => match[1]!)
}

/** Copies files to the same paths below `root`, links followed. */
export function addFiles(root: string, paths: Iterable<string>): void {
  for (const path of paths) {
    fs.mkdirSync(join(root, dirname(path)), { recursive: true })
    fs.copyFileSync(path, join(root, path))
  }
}

/** Empty but for the given libraries, a shell, `readlink`, and folders to mount on. */
export function makeEmptyRoot(root: string, libraries: Iterable<string>): void {
  fs.rmSync(root, { recursive: true, force: true })
  for (const folder of ['proc', 'dev', 'tmp', 'bin']) fs.mkdirSync(join(root, folder), { recursive: true })
  fs.chmodSync(join(root, 'tmp'), 0o1777)
  for (const name of ['null', 'urandom']) fs.writeFileSync(join(root, 'dev', name), '')
  const programs = ['/usr/bin/dash', '/usr/bin/readlink'].map((path) => fs.realpathSync(path))
  addFiles(root, [...libraries, ...programs.flatMap(linkedLibraries)])
  fs.copyFileSync(programs[0]!, join(root, 'bin/sh'))
  fs.copyFileSync(programs[1]!, join(root, 'bin/readlink'))
}

export interface InRoot {
  command: string[]
  /** The whole environment. */
  env?: Record<string, string>
  cwd?: string
  /** uid:gid; default root. */
  user?: string
  /** Only /tmp can be written. */
  readOnly?: boolean
}

/** Mounts what programs expect, in a namespace of its own, and becomes the program. */
function unshareArgs(root: string, { command, env = {}, cwd = '/', user = '0:0', readOnly = false }: InRoot): string[] {
  const mounts = [
    'set -e',
    'mount --make-rprivate /',
    'mount --bind "$ROOT" "$ROOT"',
    'mount -t proc proc "$ROOT/proc"',
    'for name in null urandom; do mount --bind "/dev/$name" "$ROOT/dev/$name"; done',
    'mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"',
    ...(readOnly ? ['mount -o remount,bind,ro "$ROOT"'] : []),
    'exec env -i "$@"',
  ].join('\n')
  const variables = Object.entries({ PATH: '/bin', ...env }).map(([name, value]) => `${name}=${value}`)
  const inside = ['/bin/sh', '-c', 'cd "$1" && shift && exec "$@"', 'sh', cwd, ...command]
  return [
    ...['--mount', '--pid', '--fork', '--kill-child', 'env', `ROOT=${root}`, 'sh', '-c', mounts, 'sh'],
    ...[...variables, '/usr/sbin/chroot', `--userspec=${user}`, root, ...inside],
  ]
}

export interface Ended {
  status: number | null
  output: string
}

/** Runs a program to its end. */
export function runInRoot(root: string, inRoot: InRoot): Ended {
  const run = spawnSync('unshare', unshareArgs(root, inRoot), { encoding: 'utf8', maxBuffer: 2 ** 26 })
  return { status: run.status, output: `${run.stdout}${run.stderr}` }
}

export interface Running {
  output(): string
  /** The program itself, which is the first process of its pid namespace. */
  signal(name: NodeJS.Signals): void
  /** Ends it and all that it started; also when it has ended already. */
  kill(): void
  ended: Promise<number | null>
}

/** Starts a program that shares this machine's network. */
export function startInRoot(root: string, inRoot: InRoot): Running {
  const child: ChildProcess = spawn('unshare', unshareArgs(root, inRoot), { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  return {
    output: () => output,
    signal(name) {
      const children = fs.readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim()
      process.kill(Number(children.split(' ')[0]), name)
    },
    kill() {
      child.kill('SIGKILL')
    },
    ended: promise,
  }
}

/** Manifest and libraries of lavapipe as they lie on this machine; null where it is not installed. */
export function lavapipeFiles(): string[] | null {
  const folder = '/usr/share/vulkan/icd.d'
  const manifest = fs.existsSync(folder)
    ? fs.readdirSync(folder).find((name) => /^lvp_icd.*\.json$/.test(name))
    : undefined
  if (manifest === undefined) return null
  const { ICD } = JSON.parse(fs.readFileSync(join(folder, manifest), 'utf8')) as { ICD: { library_path: string } }
  const library = join('/usr/lib/x86_64-linux-gnu', basename(ICD.library_path))
  return [join(folder, manifest), library, ...linkedLibraries(library)]
}
