"""The contract of an equipment class with one sensor, for tests that read contracts or change them."""

FAN = """\
apiVersion: v3.2.0
kind: DataContract
id: fan-telemetry
name: fan
version: 1.0.0
status: active
schema:
  - name: telemetry
    properties:
      - {name: equipment_id, logicalType: string, primaryKey: true, primaryKeyPosition: 1}
      - {name: ts, logicalType: timestamp, primaryKey: true, primaryKeyPosition: 2}
      - name: speed_rpm
        logicalType: number
        logicalTypeOptions: {minimum: 0, maximum: 3000}
        customProperties: [{property: unit, value: rpm}, {property: role, value: input}]
customProperties:
  - {property: remainingUsefulLife, value: {unit: day, seconds: 86400, cap: 30}}
"""
