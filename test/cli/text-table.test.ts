import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bytesText, percentText, printable, secondsText, shapeText, tableLines } from '../../src/cli/text-table.ts'

test('bytes are shown in binary units', () => {
  assert.deepEqual([0, 1023, 1024, 1536, 200 * 1024 * 1024, 5 * 2 ** 40].map(bytesText), [
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.5 KiB',
    '200 MiB',
    '5.0 TiB',
  ])
})

test('fractions, seconds and shapes read as people write them', () => {
  assert.equal(percentText(0.25), '25.0 %')
  assert.equal(secondsText(3.26), '3.3 s')
  assert.equal(secondsText(75.9), '1 min 15 s')
  assert.equal(shapeText([64, 'N', 7]), '64xNx7')
  assert.equal(shapeText([]), 'scalar')
})

test('control and direction characters are replaced', () => {
  assert.equal(printable('a\u001b[2Jb\u202ec\u009b'), 'a\ufffd[2Jb\ufffdc\ufffd')
  assert.equal(printable('größe 大小'), 'größe 大小')
})

test('columns line up, numbers to the right, long names keep both ends', () => {
  assert.deepEqual(
    tableLines(
      [{ title: 'NAME', maxWidth: 11 }, { title: 'BYTES', align: 'right' }, { title: 'WHY' }],
      [
        ['a', '1', 'x'],
        ['encoder/layer/0', '12345678', ''],
      ],
    ),
    ['NAME            BYTES  WHY', 'a                   1  x', 'enco...er/0  12345678'],
  )
})
