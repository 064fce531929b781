# The image of Dockerfile with Spark on top, for the runs and for the executors that they start (docs/scale.md).
ARG IMAGE=octo-pipeline
FROM apache/spark:4.3.0 AS spark
FROM ${IMAGE}
USER root
RUN apt-get update && apt-get install --yes --no-install-recommends default-jre-headless tini && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir -c constraints.txt "pyspark[connect]==4.3.0"
# Executors are started by Spark's own script; it must be of the version of pyspark.
COPY --from=spark /opt/spark /opt/spark
COPY --from=spark /opt/entrypoint.sh /opt/entrypoint.sh
# What a service submits: the file must end in .py, and nothing that Python could import may be beside it.
RUN mkdir /opt/octo/submit && printf 'from octo_pipeline.cli.main import main\n\nmain()\n' > /opt/octo/submit/octo.py
ENV SPARK_HOME=/opt/spark PYSPARK_PYTHON=/usr/local/bin/python
USER octo
