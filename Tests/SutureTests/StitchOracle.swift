// SPDX-License-Identifier: Apache-2.0
import Suture

/// Small dense algebra in float64, written for the tests: nothing of the library's.
struct Dense {
    var rows: Int
    var cols: Int
    var x: [Double]

    init(_ rows: Int, _ cols: Int, _ value: (Int, Int) -> Double = { _, _ in 0 }) {
        self.rows = rows
        self.cols = cols
        x = (0..<rows * cols).map { value($0 / cols, $0 % cols) }
    }

    init(_ matrix: FloatMatrix) {
        self.init(matrix.rows, matrix.cols) { Double(matrix[$0, $1]) }
    }

    subscript(i: Int, j: Int) -> Double {
        get { x[i * cols + j] }
        set { x[i * cols + j] = newValue }
    }

    var t: Dense { Dense(cols, rows) { self[$1, $0] } }
    var norm: Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    static func identity(_ n: Int) -> Dense { Dense(n, n) { $0 == $1 ? 1 : 0 } }

    static func + (a: Dense, b: Dense) -> Dense { Dense(a.rows, a.cols) { a[$0, $1] + b[$0, $1] } }
    static func - (a: Dense, b: Dense) -> Dense { Dense(a.rows, a.cols) { a[$0, $1] - b[$0, $1] } }
    static func * (s: Double, a: Dense) -> Dense { Dense(a.rows, a.cols) { s * a[$0, $1] } }
    static func * (a: Dense, b: Dense) -> Dense {
        Dense(a.rows, b.cols) { i, j in (0..<a.cols).reduce(0) { $0 + a[i, $1] * b[$1, j] } }
    }

    /// The solution of self X = right, by Gauss–Jordan elimination with partial pivoting.
    func solve(_ right: Dense) -> Dense {
        var (a, b) = (self, right)
        for k in 0..<rows {
            let pivot = (k..<rows).max { abs(a[$0, k]) < abs(a[$1, k]) } ?? k
            for j in 0..<a.cols { (a.x[k * a.cols + j], a.x[pivot * a.cols + j]) = (a[pivot, j], a[k, j]) }
            for j in 0..<b.cols { (b.x[k * b.cols + j], b.x[pivot * b.cols + j]) = (b[pivot, j], b[k, j]) }
            for i in 0..<rows where i != k {
                let factor = a[i, k] / a[k, k]
                for j in k..<a.cols { a[i, j] -= factor * a[k, j] }
                for j in 0..<b.cols { b[i, j] -= factor * b[k, j] }
            }
        }
        return Dense(rows, b.cols) { b[$0, $1] / a[$0, $0] }
    }

    /// Least-squares solution of self X = right by Householder reflections: no normal equations.
    func leastSquares(_ right: Dense) -> Dense {
        var (a, b) = (self, right)
        for k in 0..<cols {
            var v = (k..<rows).map { a[$0, k] }
            let length = v.reduce(0) { $0 + $1 * $1 }.squareRoot()
            v[0] += v[0] >= 0 ? length : -length
            let square = v.reduce(0) { $0 + $1 * $1 }
            func reflect(_ m: inout Dense) {
                for j in 0..<m.cols {
                    let factor = 2 * v.indices.reduce(0) { $0 + v[$1] * m[k + $1, j] } / square
                    for i in v.indices { m[k + i, j] -= factor * v[i] }
                }
            }
            reflect(&a)
            reflect(&b)
        }
        var result = Dense(cols, b.cols)
        for j in 0..<b.cols {
            for i in stride(from: cols - 1, through: 0, by: -1) {
                let known = (i + 1..<max(i + 1, cols)).reduce(0) { $0 + a[i, $1] * result[$1, j] }
                result[i, j] = (b[i, j] - known) / a[i, i]
            }
        }
        return result
    }
}

/// The stitching objective and its derivatives straight from rows, as method and paper write them.
struct StitchOracle {
    let alpha: Double
    let a: Dense
    let b: Dense
    let meanA: Dense
    let meanB: Dense
    /// Centred covariances.
    let sx: Dense
    let sy: Dense
    let sxy: Dense
    var dA: Double { Double(a.cols) }
    var dB: Double { Double(b.cols) }

    init(_ rows: PairedRows, alpha: Double) {
        self.alpha = alpha
        a = Dense(rows.rows, rows.a.cols) { Double(rows.a[$0, $1]) }
        b = Dense(rows.rows, rows.b.cols) { Double(rows.b[$0, $1]) }
        let n = Double(rows.rows)
        func mean(_ m: Dense) -> Dense { Dense(1, m.cols) { _, j in (0..<m.rows).reduce(0) { $0 + m[$1, j] } / n } }
        let (meanA, meanB) = (mean(a), mean(b))
        self.meanA = meanA
        self.meanB = meanB
        let (a, b) = (a, b)
        let centredA = Dense(a.rows, a.cols) { a[$0, $1] - meanA[0, $1] }
        let centredB = Dense(b.rows, b.cols) { b[$0, $1] - meanB[0, $1] }
        sx = (1 / n) * (centredA.t * centredA)
        sy = (1 / n) * (centredB.t * centredB)
        sxy = (1 / n) * (centredA.t * centredB)
    }

    var centredA: Dense { Dense(a.rows, a.cols) { a[$0, $1] - meanA[0, $1] } }
    var centredB: Dense { Dense(b.rows, b.cols) { b[$0, $1] - meanB[0, $1] } }

    static func meanSquare(_ x: Dense, _ y: Dense) -> Double {
        zip(x.x, y.x).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / Double(x.x.count)
    }

    /// up, down, round trip of A, round trip of B: row by row.
    func terms(_ p: Dense, _ bUp: Dense, _ q: Dense, _ bDown: Dense) -> [Double] {
        func map(_ h: Dense, _ m: Dense, _ bias: Dense) -> Dense {
            let image = h * m
            return Dense(image.rows, image.cols) { image[$0, $1] + bias[0, $1] }
        }
        let (up, down) = (map(a, p, bUp), map(b, q, bDown))
        return [
            Self.meanSquare(up, b), Self.meanSquare(down, a), Self.meanSquare(map(up, q, bDown), a),
            Self.meanSquare(map(down, p, bUp), b),
        ]
    }

    func terms(_ stitch: Stitch) -> [Double] {
        terms(Dense(stitch.upMatrix), Dense(stitch.upBias), Dense(stitch.downMatrix), Dense(stitch.downBias))
    }

    /// L with the best biases for the maps.
    func objective(_ p: Dense, _ q: Dense) -> Double {
        let t = terms(p, meanB - meanA * p, q, meanA - meanB * q)
        return t[0] + t[1] + alpha * (t[2] + t[3])
    }

    /// Derivatives of L from rows, by central differences.
    func gradient(_ p: Dense, _ q: Dense, step: Double = 1e-4) -> (p: Dense, q: Dense) {
        let forP = Dense(p.rows, p.cols) { i, j in
            var (low, high) = (p, p)
            low[i, j] -= step
            high[i, j] += step
            return (objective(high, q) - objective(low, q)) / (2 * step)
        }
        let forQ = Dense(q.rows, q.cols) { i, j in
            var (low, high) = (q, q)
            low[i, j] -= step
            high[i, j] += step
            return (objective(p, high) - objective(p, low)) / (2 * step)
        }
        return (forP, forQ)
    }

    /// Norm of a gradient where the activations are white: tr(gᵀ S⁻¹ g) over both maps.
    func whiteNorm(_ gradient: (p: Dense, q: Dense)) -> Double {
        func part(_ g: Dense, _ s: Dense) -> Double { zip(g.x, s.solve(g).x).reduce(0) { $0 + $1.0 * $1.1 } }
        return (part(gradient.p, sx) + part(gradient.q, sy)).squareRoot()
    }

    /// Both sides of the generalised Sylvester equation of P for fixed Q.
    func sylvester(_ p: Dense, _ q: Dense) -> (left: Dense, right: Dense) {
        let output = (1 / dB) * Dense.identity(b.cols) + (alpha / dA) * (q * q.t)
        let left = sx * p * output + (alpha / dB) * (q.t * sy * q * p)
        let right = (1 / dB) * sxy + (alpha / dA) * (sx * q.t) + (alpha / dB) * (q.t * sy)
        return (left, right)
    }

    /// The oracle with the sides changed: its P is our Q.
    var mirrored: StitchOracle {
        StitchOracle(alpha: alpha, a: b, b: a, meanA: meanB, meanB: meanA, sx: sy, sy: sx, sxy: sxy.t)
    }

    private init(alpha: Double, a: Dense, b: Dense, meanA: Dense, meanB: Dense, sx: Dense, sy: Dense, sxy: Dense) {
        self.alpha = alpha
        self.a = a
        self.b = b
        self.meanA = meanA
        self.meanB = meanB
        self.sx = sx
        self.sy = sy
        self.sxy = sxy
    }

    /// The best P for Q: the Sylvester equation as one linear system of all entries of P.
    func best(_ q: Dense) -> Dense {
        let (n, m) = (a.cols, b.cols)
        let output = (1 / dB) * Dense.identity(m) + (alpha / dA) * (q * q.t)
        let inner = (alpha / dB) * (q.t * sy * q)
        let system = Dense(n * m, n * m) { row, col in
            let (i, j, k, l) = (row / m, row % m, col / m, col % m)
            return sx[i, k] * output[l, j] + (j == l ? inner[i, k] : 0)
        }
        let right = sylvester(Dense(n, m), q).right
        let solution = system.solve(Dense(n * m, 1) { i, _ in right.x[i] })
        return Dense(n, m) { solution[$0 * m + $1, 0] }
    }

    /// The end of the plain alternation from least squares.
    func alternated(steps: Int) -> (p: Dense, q: Dense) {
        var (p, q) = (sx.solve(sxy), sy.solve(sxy.t))
        let mirror = mirrored
        for _ in 0..<steps {
            p = best(q)
            q = mirror.best(p)
        }
        return (p, q)
    }
}
