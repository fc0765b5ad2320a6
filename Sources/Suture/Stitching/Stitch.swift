// SPDX-License-Identifier: Apache-2.0

/// Which way through a stitch.
public enum Direction: Sendable {
    /// From model A to model B.
    case up
    /// From model B to model A.
    case down
}

/// An affine map between the residual streams of models A and B, in both directions
/// (arXiv 2506.06609, eq. 1): `up(h_A) = h_A P_up + b_up`, `down(h_B) = h_B P_down + b_down`.
public struct Stitch: Sendable {
    /// (d_a, d_b)
    public let upMatrix: FloatMatrix
    /// (1, d_b)
    public let upBias: FloatMatrix
    /// (d_b, d_a)
    public let downMatrix: FloatMatrix
    /// (1, d_a)
    public let downBias: FloatMatrix
    /// What is known about where it comes from: models, layers, tokens seen, alpha, objective.
    public var metadata: Metadata

    public var dA: Int { upMatrix.rows }
    public var dB: Int { upMatrix.cols }

    /// - Throws: `SutureError.invalidArgument` where shapes do not fit together.
    public init(
        upMatrix: FloatMatrix, upBias: FloatMatrix, downMatrix: FloatMatrix, downBias: FloatMatrix,
        metadata: Metadata = Metadata()
    ) throws {
        let (dA, dB) = (upMatrix.rows, upMatrix.cols)
        for (name, matrix, rows, cols) in [
            ("P_down", downMatrix, dB, dA), ("b_up", upBias, 1, dB), ("b_down", downBias, 1, dA),
        ] where matrix.rows != rows || matrix.cols != cols {
            throw SutureError.invalidArgument(
                "\(name) is (\(matrix.rows), \(matrix.cols)), expected (\(rows), \(cols)) to go with P_up (\(dA), \(dB))"
            )
        }
        self.upMatrix = upMatrix
        self.upBias = upBias
        self.downMatrix = downMatrix
        self.downBias = downBias
        self.metadata = metadata
    }

    /// Matrix and bias of one direction.
    public func map(_ direction: Direction) -> (matrix: FloatMatrix, bias: FloatMatrix) {
        switch direction {
        case .up: return (upMatrix, upBias)
        case .down: return (downMatrix, downBias)
        }
    }
}
