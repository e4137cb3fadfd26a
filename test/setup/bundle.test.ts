// The small parts of the bundle: its launcher, with a program that only tells how it was started, and its list of licences. The
// bundle itself is proven by `npm run check:bundle`.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, readFileSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { licenceList, type Part, partOfPackage } from '../../scripts/bundle/licence-list.ts'
import { productionPackages } from '../../scripts/bundle/production-packages.ts'
import { tempFolder } from '../support/temp-folder.ts'

const ROOT = join(import.meta.dirname, '..', '..')

/** A bundle whose Node prints its arguments, one a line, and the library path. */
function fakeBundle(t: TestContext): { folder: string; bundle: string } {
  const folder = realpathSync(tempFolder(t))
  const bundle = join(folder, 'a "b" $c')
  mkdirSync(join(bundle, 'lib'), { recursive: true })
  copyFileSync(join(ROOT, 'scripts/bundle/launcher.sh'), join(bundle, 'tensorpress'))
  writeFileSync(
    join(bundle, 'lib/node'),
    '#!/bin/sh\nprintf "%s\\n" "$@" "LD=$LD_LIBRARY_PATH" "SETUP=$TENSORPRESS_SETUP"\nexit 7\n',
  )
  chmodSync(join(bundle, 'lib/node'), 0o755)
  return { folder, bundle }
}

function launch(path: string, args: string[], env: Record<string, string> = {}, cwd = '/') {
  const { status, stdout, stderr } = spawnSync(path, args, {
    encoding: 'utf8',
    cwd,
    env: { PATH: process.env['PATH'], ...env },
  })
  assert.equal(stderr, '')
  assert.equal(status, 7, 'the exit status is that of the program')
  const lines = stdout.trimEnd().split('\n')
  return { program: lines[0], args: lines.slice(1, -2), libraries: lines.at(-2)?.slice(3), setup: lines.at(-1) }
}

test('the launcher starts the program beside it, whatever leads to it, and passes every argument on', (t) => {
  const { folder, bundle } = fakeBundle(t)
  const started = launch(join(bundle, 'tensorpress'), ['a b', '', '*', '--x="y"'])
  assert.equal(started.program, join(bundle, 'app/bin/tensorpress'))
  assert.deepEqual(started.args, ['a b', '', '*', '--x="y"'])
  assert.equal(started.setup, 'SETUP=skip')
  mkdirSync(join(folder, 'bin'))
  symlinkSync(join('..', 'a "b" $c', 'tensorpress'), join(folder, 'bin/relative'))
  symlinkSync(join(folder, 'bin/relative'), join(folder, 'bin/absolute'))
  for (const name of ['relative', 'absolute']) {
    assert.equal(launch(join(folder, 'bin', name), []).program, join(bundle, 'app/bin/tensorpress'), name)
    assert.equal(launch(name, [], { PATH: `${folder}/bin:${process.env['PATH']}` }).program, started.program, name)
  }
  assert.equal(launch('sh', ['tensorpress'], {}, bundle).program, started.program)
  assert.equal(launch('./tensorpress', [], { CDPATH: folder }, bundle).program, started.program)
})

test('the launcher adds its Vulkan loader behind LD_LIBRARY_PATH, and only where there is no other', (t) => {
  const { folder, bundle } = fakeBundle(t)
  const hostHasOne = ['/usr/lib/x86_64-linux-gnu', '/usr/lib64', '/usr/lib'].some(
    (path) => spawnSync('test', ['-e', `${path}/libvulkan.so.1`]).status === 0,
  )
  const own = join(bundle, 'lib/vulkan')
  assert.equal(launch(join(bundle, 'tensorpress'), []).libraries, hostHasOne ? '' : own)
  mkdirSync(join(folder, 'mine'))
  const mine = join(folder, 'mine')
  const without = launch(join(bundle, 'tensorpress'), [], { LD_LIBRARY_PATH: mine })
  assert.equal(without.libraries, hostHasOne ? mine : `${mine}:${own}`)
  writeFileSync(join(mine, 'libvulkan.so.1'), '')
  assert.equal(launch(join(bundle, 'tensorpress'), [], { LD_LIBRARY_PATH: mine }).libraries, mine)
})

test('every package that the program needs is in the list of licences, with equal texts once', () => {
  const packages = productionPackages(ROOT)
  const names = packages.map(({ name }) => name)
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Record<
    'dependencies' | 'devDependencies',
    Record<string, string>
  >
  for (const name of Object.keys(dependencies)) assert.ok(names.includes(name), name)
  for (const name of ['typescript', 'supertest', 'mnist']) {
    assert.ok(name in devDependencies)
    assert.equal(names.includes(name), false, name)
  }
  for (const name of ['ioredis', '@redis/client', 'cluster-key-slot']) assert.equal(names.includes(name), false, name)
  const parts = packages.map((entry) => partOfPackage(ROOT, entry))
  const list = licenceList('this bundle', parts)
  for (const { name, version } of parts) assert.ok(list.includes(`\n${name} ${version}\n`), name)
  const express = parts.find(({ name }) => name === 'express')
  assert.equal(express?.licence, 'MIT')
  assert.ok(list.includes(express.texts[0]!))
})

test('the list of licences numbers texts and says where a package has none', () => {
  const part = (name: string, texts: string[]): Part => ({ name, version: '1.0.0', licence: 'MIT', source: 'x', texts })
  const list = licenceList('this bundle', [part('a', ['one']), part('b', ['two', 'one']), part('c', [])])
  assert.match(list, /^a 1\.0\.0\n {2}MIT; text 1$/m)
  assert.match(list, /^b 1\.0\.0\n {2}MIT; text 2, 1$/m)
  assert.match(list, /^c 1\.0\.0\n {2}MIT; no text in the package$/m)
  assert.equal(list.split('\none\n').length, 2)
})
