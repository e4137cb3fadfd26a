// Starts the image's program the way a container engine with a strict profile would: read-only root, /tmp in memory, volumes,
// the image's own user without any capability or way to gain one, a network of its own with nothing but loopback, a /dev with
// five devices. Entry: startImage. Not covered: seccomp filters, cgroup limits, layers, registries (docs/operations.md).

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import * as fs from 'node:fs'
import { dirname, join } from 'node:path'
import type { ImageConfig } from './dockerfile.ts'

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom']
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export interface RunningImage {
  /** The program's process, as this machine numbers it. */
  pid: number
  log: () => string
  /** Runs a program of this machine in the image's network; returns status and output. */
  beside: (...command: string[]) => { status: number; output: string }
  /** Runs a program of the image in the running container, as its user: `docker exec`. */
  exec: (...command: string[]) => { status: number; output: string }
  /** Exit status or signal of the program. */
  ended: Promise<number | string>
  stop: (signal: NodeJS.Signals) => Promise<number | string>
}

export interface StartOptions {
  root: string
  config: ImageConfig
  /** Where the volumes lie on this machine. */
  volumes: string
  /** Added to the image's environment. */
  env?: Record<string, string>
  /** Files that are there read-only, by their path in the image: a mounted secret. */
  mounts?: Record<string, string>
}

export async function startImage(options: StartOptions): Promise<RunningImage> {
  const { root, config, volumes } = options
  const [uid, gid] = config.user.split(':')
  if (!/^[1-9]\d*$/.test(uid ?? '') || !/^[1-9]\d*$/.test(gid ?? ''))
    throw new Error(`USER ${config.user} is not numeric`)
  const environment = { PATH: DEFAULT_PATH, ...config.env, ...options.env }
  const asUser = [
    ...['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--no-new-privs'],
    ...['--bounding-set=-all', '--inh-caps=-all', '--ambient-caps=-all', '--'],
    ...['env', '-i', '-C', config.workdir],
    ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
  ]
  const lines = [
    'set -e',
    'mount --make-rprivate /',
    'mount --bind "$ROOT" "$ROOT"',
    'mount -t proc -o nosuid,nodev,noexec proc "$ROOT/proc"',
    'mount -t tmpfs -o nosuid,noexec,mode=755 dev "$ROOT/dev"',
    ...DEVICES.flatMap((name) => [`touch "$ROOT/dev/${name}"`, `mount --bind /dev/${name} "$ROOT/dev/${name}"`]),
    'mount -t tmpfs -o nosuid,nodev,size=64m,mode=1777 tmp "$ROOT/tmp"',
  ]
  for (const path of config.volumes) {
    const outside = join(volumes, path)
    fs.mkdirSync(outside, { recursive: true })
    // An engine fills a fresh volume with what the image has there, its owner included.
    const { uid: owner, gid: group } = fs.statSync(join(root, path))
    fs.chownSync(outside, owner, group)
    lines.push(`mount --bind '${outside}' "$ROOT${path}"`)
  }
  lines.push('mount -o remount,bind,ro "$ROOT"')
  if (options.mounts !== undefined) lines.push('mount -t tmpfs -o nosuid,nodev,mode=755 secrets "$ROOT/run"')
  for (const [path, file] of Object.entries(options.mounts ?? {})) {
    if (!path.startsWith('/run/')) throw new Error(`${path}: mounts are made below /run only`)
    lines.push(
      `mkdir -p "$ROOT${dirname(path)}"`,
      `touch "$ROOT${path}"`,
      `mount --bind '${file}' "$ROOT${path}"`,
      `mount -o remount,bind,ro "$ROOT${path}"`,
    )
  }
  lines.push('ip link set lo up', 'exec chroot "$ROOT" "$@"')

  const program = [...asUser, ...config.entrypoint, ...config.command]
  const outer = spawn(
    'unshare',
    [
      '--mount',
      '--pid',
      '--net',
      '--ipc',
      '--uts',
      '--fork',
      '--kill-child',
      'sh',
      '-c',
      lines.join('\n'),
      'run',
      ...program,
    ],
    { env: { PATH: process.env['PATH'], ROOT: root }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let log = ''
  for (const stream of [outer.stdout, outer.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      log += text
    })
  }
  const ended = once(outer, 'exit').then(([code, signal]) => (code ?? signal) as number | string)
  const pid = await firstChild(outer)
  const inside = (flags: string[], command: string[]) => {
    const run = spawnSync('nsenter', [`--target=${pid}`, ...flags, ...command], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    })
    return { status: run.status ?? 1, output: `${run.stdout}${run.stderr}` }
  }
  return {
    pid,
    log: () => log,
    beside: (...command) => inside(['--net'], command),
    exec: (...command) => inside(['--mount', '--pid', '--net'], ['chroot', root, ...asUser, ...command]),
    ended,
    stop(signal) {
      if (outer.exitCode === null && outer.signalCode === null) process.kill(pid, signal)
      return ended
    },
  }
}

/** unshare --fork: the program itself is its only child. */
async function firstChild(outer: ChildProcess): Promise<number> {
  for (let tries = 0; tries < 500; tries++) {
    try {
      const children = fs.readFileSync(`/proc/${outer.pid}/task/${outer.pid}/children`, 'utf8').trim()
      if (children !== '') return Number(children.split(' ')[0])
    } catch {
      break // it ended
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`unshare started nothing (status ${outer.exitCode})`)
}
