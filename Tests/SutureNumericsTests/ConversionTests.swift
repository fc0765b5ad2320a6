// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import SutureNumerics
import SutureTestSupport
import Testing

private let paths = [SK_PORTABLE, SK_AVX2, SK_AVX512, SK_AVX512_BF16, SK_AMX]

/// Bits as in `a`, any NaN counting as any other.
private func same(_ a: Float, _ b: Float) -> Bool { a.bitPattern == b.bitPattern || (a.isNaN && b.isNaN) }

/// Float32 patterns where rounding to 16 bits has something to decide: around every boundary.
private func interestingFloats() -> [Float] {
    var random = RandomSource(seed: 90 &+ testSeedOffset)
    var result: [Float] = [0, -0, .infinity, -.infinity, .nan, .greatestFiniteMagnitude, .leastNonzeroMagnitude]
    for high in stride(from: UInt32(0), through: 0xffff, by: 1) {
        for low in [0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff] as [UInt32] {
            result.append(Float(bitPattern: high << 16 | low))
        }
    }
    for _ in 0..<20_000 { result.append(Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))) }
    return result
}

@Suite struct ConversionTests {
    @Test(arguments: paths.indices)
    func `16-bit numbers are read exactly, all of them`(path: Int) throws {
        let all = (0...UInt16.max).map { $0 }
        try withKernels(paths[path]) {
            var halves = [Float](repeating: 0, count: all.count)
            var brains = halves
            sk_f16_to_f32(all, &halves, all.count)
            sk_bf16_to_f32(all, &brains, all.count)
            for (i, bits) in all.enumerated() {
                #expect(same(halves[i], Float(Float16(bitPattern: bits))))
                #expect(same(brains[i], Float(bitPattern: UInt32(bits) << 16)))
            }
        }
    }

    @Test(arguments: paths.indices)
    func `float32 rounds to the nearest 16-bit number, ties to even`(path: Int) throws {
        let values = interestingFloats()
        try withKernels(paths[path]) {
            var halves = [UInt16](repeating: 0, count: values.count)
            var brains = halves
            sk_f32_to_f16(values, &halves, values.count)
            sk_f32_to_bf16(values, &brains, values.count)
            var wrong = 0
            for (i, value) in values.enumerated() {
                let (half, expected) = (Float16(bitPattern: halves[i]), Float16(value))
                if half.bitPattern != expected.bitPattern && !(half.isNaN && expected.isNaN) { wrong += 1 }
                let brain = Float(bitPattern: UInt32(brains[i]) << 16)
                if value.isNaN || value.isInfinite {
                    if !same(brain, value) { wrong += 1 }
                    continue
                }
                // The nearest of the two neighbours, in float64, by their definition.
                let low = Float(bitPattern: value.bitPattern & 0xffff_0000)
                let high = Double(Float(bitPattern: (value.bitPattern & 0xffff_0000) &+ 0x1_0000))
                let top = high.isInfinite ? (low < 0 ? -0x1p128 : 0x1p128) : high
                let (below, above) = (abs(Double(value) - Double(low)), abs(Double(value) - top))
                let isEven = low.bitPattern & 0x1_0000 == 0
                let nearest = below < above || (below == above && isEven) ? Double(low) : top
                if (abs(nearest) == 0x1p128 ? !brain.isInfinite : Double(brain) != nearest) { wrong += 1 }
            }
            #expect(wrong == 0)
        }
    }

    @Test func `all paths give the same bits, at every length and alignment`() throws {
        let values = interestingFloats()
        let wide = values.map { Double($0) * 1.000_000_1 }
        var expected: [[UInt32]]?
        for path in paths {
            try withKernels(path) {
                var results: [[UInt32]] = []
                for (start, count) in [(0, 0), (1, 1), (3, 15), (0, 16), (5, 17), (7, 63), (2, 1000), (11, 4099)] {
                    let part = Array(values[start..<start + count])
                    var narrow = [Float](repeating: 7, count: count + 1)
                    wide.withUnsafeBufferPointer { source in
                        guard let base = source.baseAddress else { return }
                        sk_f64_to_f32(base + start, &narrow, count)
                    }
                    var exact = [Double](repeating: 7, count: count + 1)
                    sk_f32_to_f64(part, &exact, count)
                    var halves = [UInt16](repeating: 7, count: count + 1)
                    sk_f32_to_f16(part, &halves, count)
                    var brains = halves
                    sk_f32_to_bf16(part, &brains, count)
                    // Nothing is written past the end.
                    #expect(narrow[count] == 7 && exact[count] == 7 && halves[count] == 7)
                    for i in 0..<count {
                        #expect(same(narrow[i], Float(wide[start + i])))
                        #expect(exact[i] == Double(part[i]) || part[i].isNaN)
                    }
                    results.append(narrow.map { $0.isNaN ? 1 : $0.bitPattern })
                    results.append(halves.map { UInt32($0) } + brains.map { UInt32($0) })
                }
                if let expected { #expect(results == expected) } else { expected = results }
            }
        }
    }

    @Test(arguments: paths.indices)
    func `the first number that is not finite is found wherever it is`(path: Int) throws {
        try withKernels(paths[path]) {
            for count in [0, 1, 5, 63, 64, 65, 200] {
                let clean = [Float](repeating: .greatestFiniteMagnitude, count: count)
                let wide = [Double](repeating: -.greatestFiniteMagnitude, count: count)
                #expect(sk_first_nonfinite_f32(clean, count) == count)
                #expect(sk_first_nonfinite_f64(wide, count) == count)
                for position in 0..<count {
                    for bad in [Float.nan, .infinity, -.infinity, .signalingNaN] {
                        var damaged = clean
                        damaged[position] = bad
                        damaged[count - 1] = .nan
                        #expect(sk_first_nonfinite_f32(damaged, count) == position)
                        var damagedWide = wide
                        damagedWide[position] = Double(bad)
                        #expect(sk_first_nonfinite_f64(damagedWide, count) == position)
                    }
                }
            }
        }
    }
}

@Suite struct MatrixViewTests {
    /// 5 x 3 numbers of each type, 7 elements from row to row, `shift` bytes after an aligned start.
    private func withView(
        _ type: ElementType, shift: Int = 0, _ values: [Double], _ body: (MatrixView) throws -> Void
    ) rethrows {
        var bytes = [UInt8](repeating: 0xff, count: shift + 5 * 7 * type.byteCount)
        bytes.withUnsafeMutableBytes { raw in
            for (i, value) in values.enumerated() {
                let offset = shift + (i / 3 * 7 + i % 3) * type.byteCount
                switch type {
                case .float64: raw.storeBytes(of: value, toByteOffset: offset, as: Double.self)
                case .float32: raw.storeBytes(of: Float(value), toByteOffset: offset, as: Float.self)
                case .float16: raw.storeBytes(of: Float16(value), toByteOffset: offset, as: Float16.self)
                case .bfloat16:
                    raw.storeBytes(
                        of: UInt16(Float(value).bitPattern >> 16), toByteOffset: offset, as: UInt16.self)
                }
            }
        }
        try bytes.withUnsafeBytes { raw in
            try body(
                MatrixView(base: raw.baseAddress.map { $0 + shift }, rows: 5, cols: 3, rowStride: 7, type: type))
        }
    }

    @Test(arguments: ElementType.allCases, [0, 1, 2, 3])
    func `rows, blocks and all are read with any stride and alignment`(type: ElementType, shift: Int) throws {
        let values = (0..<15).map { Double($0) - 7.5 }
        for path in paths {
            try withKernels(path) {
                withView(type, shift: shift, values) { view in
                    var all = [Float](repeating: 0, count: 15)
                    view.read(into: &all)
                    #expect(all.map { Double($0) } == values)
                    var scratch = [Float](repeating: 0, count: 3)
                    var row = [Double](repeating: 0, count: 3)
                    view.rows(2..<5).readRow(1, into: &row, scratch: &scratch)
                    #expect(row == Array(values[9..<12]))
                    var part = [Float](repeating: 0, count: 4)
                    view.block(rows: 1..<3, cols: 1..<3).read(into: &part)
                    #expect(part.map { Double($0) } == [values[4], values[5], values[7], values[8]])
                    #expect(view.firstNonFinite() == nil)
                }
            }
        }
    }

    @Test(arguments: ElementType.allCases, [0, 1])
    func `the first bad element is named by row and column`(type: ElementType, shift: Int) {
        var values = (0..<15).map { Double($0) }
        values[10] = .infinity
        values[13] = .nan
        withView(type, shift: shift, values) { view in
            let bad = view.firstNonFinite()
            #expect(bad?.row == 3 && bad?.column == 1 && bad?.value == .infinity)
            // Padding between the rows is not looked at.
            #expect(view.rows(0..<3).firstNonFinite() == nil)
        }
    }

    @Test func `float64 beyond float32 counts as infinite only where float32 is asked for`() {
        let values = (0..<15).map { $0 == 4 ? -1e39 : 1 }
        withView(.float64, values) { view in
            #expect(view.firstNonFinite() == nil)
            let bad = view.firstNonFinite(asFloat32: true)
            #expect(bad?.row == 1 && bad?.column == 1)
        }
    }
}
