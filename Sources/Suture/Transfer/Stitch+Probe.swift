// SPDX-License-Identifier: Apache-2.0

extension Stitch {
    /// Carries a probe of one model to the other, such that `probe'(h) = probe(T⁻(h))`: upwards, with
    /// T⁻ = down, `w' = P_down w`, `c' = c + b_down · w`. Sums are in float64, rounded once.
    ///
    /// The metadata of the result names the new model and layer, where the stitch knows them, and
    /// keeps the old ones in `transferred_from`.
    ///
    /// - Parameter site: where it comes from, in place of what its metadata say; so a name that nobody can
    ///   read, or that says too little, can be overruled.
    /// - Throws: `SutureError.invalidArgument` where sizes, models, layers or streams do not match;
    ///   `.numerical` for weights beyond float32.
    public func transfer(_ probe: Probe, direction: Direction = .up, site: Site? = nil) throws -> Probe {
        let (forward, backward) = (map(direction), map(direction == .up ? .down : .up))
        let ends = try TransferEnds(self, direction, of: "probe")
        guard probe.dIn == forward.matrix.rows else {
            throw SutureError.invalidArgument(
                "probe has d_in = \(probe.dIn), expected \(ends.sourceSize) = \(forward.matrix.rows) "
                    + "of the stitch (d_a = \(dA), d_b = \(dB)) for this direction")
        }
        let metadata = try ends.metadata(of: probe.metadata, from: site)
        let (matrix, shift) = (backward.matrix, backward.bias)
        let weights = try FloatMatrix(rows: probe.outputs, cols: matrix.rows) { target in
            for output in 0..<probe.outputs {
                for i in 0..<matrix.rows {
                    var sum = 0.0
                    for j in 0..<matrix.cols { sum += Double(matrix[i, j]) * Double(probe.weights[output, j]) }
                    target[output * matrix.rows + i] = Float(sum)
                }
            }
        }
        let bias = try FloatMatrix(rows: 1, cols: probe.outputs) { target in
            for output in 0..<probe.outputs {
                var sum = Double(probe.bias[0, output])
                for j in 0..<matrix.cols { sum += Double(shift[0, j]) * Double(probe.weights[output, j]) }
                target[output] = Float(sum)
            }
        }
        guard weights.buffer.allSatisfy(\.isFinite), bias.buffer.allSatisfy(\.isFinite) else {
            throw SutureError.numerical("the weights of the transferred probe are beyond float32")
        }
        return try Probe(weights: weights, bias: bias, classes: probe.classes, metadata: metadata)
    }
}
