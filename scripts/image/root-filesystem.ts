// What stands in for the container engine: root file systems in .tools/image, made with debootstrap, and programs run in them
// by chroot in mount and pid namespaces of their own, so that no mount outlives its program. Entries: makeBase, runInside.
// Needs Linux, root, apt-get (which fetches debootstrap itself without installing it) and util-linux.

import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'

/** Debian's suite of the base images; the digits before it in the tag of NODE_IMAGE are Node's version. */
const SUITE = 'trixie'
/** The npm that comes with Node's image is not in Node's npm package; its major version is the same. */
const NPM_VERSION = '11.19.1'

/** What the slim variants of Debian's images leave out of a minbase. */
const NOT_IN_SLIM = ['usr/share/doc', 'usr/share/man', 'usr/share/info', 'usr/share/locale', 'usr/share/lintian']
const SLIM_DPKG = NOT_IN_SLIM.map((folder) => `path-exclude /${folder}/*\n`).join('')

export interface Bases {
  /** Stands in for debian:trixie-slim. */
  debian: string
  /** Stands in for node:<version>-trixie-slim. */
  node: string
}

/** Why this machine cannot do it, or null. */
export function whyImpossible(): string | null {
  if (process.platform !== 'linux') return 'root file systems can be tried on Linux only'
  if (process.getuid?.() !== 0) return 'chroot and mounts need root'
  const missing = ['apt-get', 'dpkg-deb', 'unshare', 'chroot', 'setpriv', 'nsenter', 'curl', 'npm'].filter(
    (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status !== 0,
  )
  if (missing.length > 0) return `not found: ${missing.join(', ')}`
  if (spawnSync('unshare', ['--mount', '--pid', '--fork', '--net', 'true']).status !== 0)
    return 'unshare is not allowed here'
  return null
}

/** Both base images, from the mirrors that this machine is set up with; kept in `folder` for the next run. */
export function makeBases(folder: string, nodeImage: string, debianImage: string): Bases {
  const version = new RegExp(`^node:(\\d+\\.\\d+\\.\\d+)-${SUITE}-slim$`).exec(nodeImage)?.[1]
  if (version === undefined) throw new Error(`NODE_IMAGE ${nodeImage} is not node:<version>-${SUITE}-slim`)
  if (debianImage !== `debian:${SUITE}-slim`)
    throw new Error(`RUNTIME_IMAGE ${debianImage} is not debian:${SUITE}-slim`)
  const debian = join(folder, `base-${SUITE}`)
  makeOnce(debian, (unfinished) => debootstrap(folder, unfinished))
  const node = join(folder, `base-node-${version}`)
  makeOnce(node, (unfinished) => {
    copyTree(debian, unfinished)
    addNode(unfinished, version)
  })
  return { debian, node }
}

function makeOnce(path: string, make: (unfinished: string) => void): void {
  if (fs.existsSync(path)) return
  const unfinished = `${path}.unfinished`
  fs.rmSync(unfinished, { recursive: true, force: true })
  make(unfinished)
  fs.renameSync(unfinished, path)
}

function debootstrap(folder: string, target: string): void {
  const tool = join(folder, 'debootstrap')
  makeOnce(tool, (unfinished) => {
    fs.mkdirSync(unfinished, { recursive: true })
    shell('apt-get -qq download debootstrap && dpkg-deb -x debootstrap_*.deb .', { cwd: unfinished })
  })
  const scripts = join(tool, 'usr', 'share', 'debootstrap')
  // $MIRROR stands without quotes: empty, it is no argument, and debootstrap takes its default.
  shell('exec sh "$TOOL" --variant=minbase "$SUITE" "$TARGET" $MIRROR', {
    env: {
      DEBOOTSTRAP_DIR: scripts,
      TOOL: join(tool, 'usr/sbin/debootstrap'),
      SUITE,
      TARGET: target,
      MIRROR: mirror(),
    },
  })
  for (const path of NOT_IN_SLIM) emptyFolder(join(target, path))
  for (const path of ['var/cache/apt', 'var/lib/apt/lists', 'var/log']) emptyFolder(join(target, path))
  fs.writeFileSync(join(target, 'etc/dpkg/dpkg.cfg.d/docker'), SLIM_DPKG)
}

/** The mirror of this machine's own Debian packages; empty: debootstrap's default. */
function mirror(): string {
  const format = '$(ORIGIN) $(REPO_URI)'
  const targets = shell(`apt-get indextargets --format '${format}' 'Created-By: Packages'`)
  return /^Debian (\S+)$/m.exec(targets)?.[1] ?? ''
}

/** Node's own build, from the npm registry, where Node's image has it: /usr/local. */
function addNode(target: string, version: string): void {
  const packages = `${target}.packages`
  fs.mkdirSync(packages, { recursive: true })
  fs.writeFileSync(join(packages, 'package.json'), '{"private":true}\n')
  const name = `node-linux-${process.arch}`
  shell(
    `npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error ${name}@${version} npm@${NPM_VERSION}`,
    { cwd: packages },
  )
  const local = join(target, 'usr', 'local')
  fs.copyFileSync(join(packages, 'node_modules', name, 'bin', 'node'), join(local, 'bin', 'node'))
  fs.copyFileSync(join(packages, 'node_modules', name, 'LICENSE'), join(local, 'LICENSE'))
  fs.mkdirSync(join(local, 'lib', 'node_modules'), { recursive: true })
  copyTree(join(packages, 'node_modules', 'npm'), join(local, 'lib', 'node_modules', 'npm'))
  for (const tool of ['npm', 'npx']) {
    fs.symlinkSync(`../lib/node_modules/npm/bin/${tool}-cli.js`, join(local, 'bin', tool))
  }
  fs.rmSync(packages, { recursive: true })
}

function emptyFolder(path: string): void {
  fs.rmSync(path, { recursive: true, force: true })
  fs.mkdirSync(path, { recursive: true })
}

export function copyTree(from: string, to: string): void {
  fs.mkdirSync(to, { recursive: true })
  shell('cp -a --reflink=auto "$FROM/." "$TO"', { env: { FROM: from, TO: to } })
}

export interface InsideOptions {
  env: Record<string, string>
  cwd: string
  /** uid:gid */
  user: string
}

/** Runs a shell command of a RUN line in `root`, with the network of this machine. Throws with its output when it fails. */
export function runInside(root: string, command: string, { env, cwd, user }: InsideOptions): void {
  const [uid, gid] = user.split(':')
  const certificates = '/etc/ssl/certs/ca-certificates.crt'
  const outside: Record<string, string> = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    npm_config_registry: shell('npm config get registry').trim(),
    // A mirror may answer with a certificate of its own; an image would trust the public authorities in Node.
    ...(fs.existsSync(certificates) ? { NODE_EXTRA_CA_CERTS: '/run/host-certificates.crt' } : {}),
  }
  const variables = Object.entries({ ...outside, ...env }).map(([name, value]) => `${name}=${value}`)
  const mounts = [
    'mount --make-rprivate /',
    'mount -t proc proc "$ROOT/proc"',
    'mount --rbind /dev "$ROOT/dev"',
    'mount -t tmpfs tmpfs "$ROOT/run"',
    'touch "$ROOT/run/resolv.conf" "$ROOT/run/host-certificates.crt"',
    `test ! -e ${certificates} || mount --bind ${certificates} "$ROOT/run/host-certificates.crt"`,
    'mount --bind "$(readlink -f /etc/resolv.conf)" "$ROOT/etc/resolv.conf"',
  ]
  fs.closeSync(fs.openSync(join(root, 'etc', 'resolv.conf'), 'a'))
  const script = `set -e\n${mounts.join('\n')}\nexec chroot "$ROOT" setpriv --reuid="$RUN_UID" --regid="$RUN_GID" --clear-groups -- env -i "$@"`
  const run = spawnSync(
    'unshare',
    // biome-ignore format: one argument list
    ['--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', script, 'run', ...variables, 'sh', '-c', `cd ${cwd} && ${command}`],
    {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
      env: { PATH: process.env['PATH'], ROOT: root, RUN_UID: uid, RUN_GID: gid ?? uid },
    },
  )
  require0(run, command)
}

/** Runs a shell line outside; returns its standard output, throws with everything it printed when it fails. */
export function shell(line: string, options: { cwd?: string; env?: Record<string, string> } = {}): string {
  const env = { ...process.env, ...options.env }
  const run = spawnSync('sh', ['-c', line], { ...options, env, encoding: 'utf8', maxBuffer: 2 ** 28 })
  require0(run, line)
  return run.stdout
}

function require0(run: SpawnSyncReturns<string>, what: string): void {
  if (run.status === 0) return
  const output = `${run.stdout ?? ''}${run.stderr ?? ''}`.trimEnd().split('\n').slice(-40).join('\n')
  throw new Error(`status ${run.status ?? run.signal ?? run.error?.message} of: ${what}\n${output}`)
}
