// SPDX-License-Identifier: Apache-2.0

extension JSON {
    /// The value as JSON text (UTF-8). Numbers come back as the same bits; NaN and infinity, which
    /// JSON has not, are written as null.
    ///
    /// - Parameter indent: spaces a level, one member a line; nil writes all on one line.
    public func text(indent: Int? = nil) -> String {
        var out = ""
        write(to: &out, indent: indent, level: 0)
        return out
    }

    private func write(to out: inout String, indent: Int?, level: Int) {
        func newLine(_ level: Int) {
            guard let indent else { return }
            out += "\n" + String(repeating: " ", count: indent * level)
        }
        switch self {
        case .null: out += "null"
        case .bool(let value): out += value ? "true" : "false"
        case .integer(let value): out += String(value)
        // The shortest text that reads back as the same Double; it always has a point or exponent.
        case .number(let value): out += value.isFinite ? value.description : "null"
        case .string(let text): Self.quote(text, to: &out)
        case .array(let elements):
            // Arrays of plain values stay on one line: shapes, layer lists.
            let plain = elements.allSatisfy {
                switch $0 {
                case .array, .object: return false
                default: return true
                }
            }
            out += "["
            for (i, element) in elements.enumerated() {
                if i > 0 { out += plain && indent != nil ? ", " : "," }
                if !plain { newLine(level + 1) }
                element.write(to: &out, indent: indent, level: level + 1)
            }
            if !plain { newLine(level) }
            out += "]"
        case .object(let members):
            out += "{"
            for (i, member) in members.enumerated() {
                if i > 0 { out += "," }
                newLine(level + 1)
                Self.quote(member.key, to: &out)
                out += indent == nil ? ":" : ": "
                member.value.write(to: &out, indent: indent, level: level + 1)
            }
            if !members.isEmpty { newLine(level) }
            out += "}"
        }
    }

    private static func quote(_ text: String, to out: inout String) {
        out += "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case "\n": out += "\\n"
            case "\r": out += "\\r"
            case "\t": out += "\\t"
            case "\0"..<" ":
                let code = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - code.utf8.count) + code
            default: out.unicodeScalars.append(scalar)
            }
        }
        out += "\""
    }
}
